"""What a listing, a verification or a clean-up has to say, as data.

``code`` is stable. Four severities, because "the bytes are wrong" and "the bytes could not be read" are different
things: only ``damage`` is proven, ``unknown`` never leads to a deletion.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    DAMAGE = "damage"
    """Proven wrong: format error, digest mismatch, missing disk."""
    UNKNOWN = "unknown"
    """Could not be read or understood; may be fine."""
    WARNING = "warning"
    """Works here and now, but not as it should be, or not for every reader."""
    INFO = "info"


class Action(StrEnum):
    """What cleaning proposes to do about a finding."""

    NONE = "none"
    DELETE = "delete"
    QUARANTINE = "quarantine"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding about ``path`` (relative to the remote's root)."""

    code: str
    severity: Severity
    path: str
    message: str
    block: int | None = None
    points: tuple[str, ...] = ()
    """Ids of the restore points it touches."""

    def __str__(self) -> str:
        where = f" block {self.block}" if self.block is not None else ""
        return f"{self.severity}: {self.path}{where}: {self.message} ({self.code})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanFinding:
    """A problem and what is proposed; ``certain`` is False when the information does not suffice to act."""

    problem: Problem
    action: Action
    certain: bool
    reason: str

    def __str__(self) -> str:
        doubt = "" if self.certain else " (not certain, left alone)"
        return f"{self.action}: {self.problem.path}: {self.reason}{doubt}"


def clean_finding(
    code: str,
    path: str,
    message: str,
    action: Action,
    *,
    reason: str = "",
    certain: bool = True,
    severity: Severity = Severity.WARNING,
) -> CleanFinding:
    """A finding of a clean-up; the message is also the reason when none is given."""
    problem = Problem(code=code, severity=severity, path=path, message=message)
    return CleanFinding(problem=problem, action=action, certain=certain, reason=reason or message)
