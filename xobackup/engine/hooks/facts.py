"""What a hook is told about the run it belongs to. Pure.

Names of VMs are whatever somebody typed: they travel as values of variables, never as a part of a command, and a
value that an environment cannot carry (a NUL, half a surrogate pair, megabytes of text) is mended, not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

PREFIX = "XOBACKUP_"
VALUE_CHARACTERS_MAX = 8192
"""Linux refuses to start a program with a variable of 128 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Empty where it does not apply. ``outcome`` is known after the fact: ``ok``, ``failed``, ``skipped``,
    ``cancelled``, and ``interrupted`` for what a crashed run had left frozen."""

    hook: str = ""
    """The moment."""
    job: str = ""
    job_id: str = ""
    run: str = ""
    pool: str = ""
    vm_uuid: str = ""
    vm_name: str = ""
    outcome: str = ""
    error: str = ""
    points: str = ""
    """Restore points as ``remote:id``, separated by blanks."""
    group: str = ""
    """The consistent group that the VM's snapshot belongs to."""
    attempt: int = 1

    def of(self, **changes: str | int) -> Facts:
        """The same with some of them changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def variables(facts: Facts) -> dict[str, str]:
    """As environment variables: ``XOBACKUP_JOB``, ``XOBACKUP_VM_NAME``, ... All of them are always there."""
    return {f"{PREFIX}{name.upper()}": _carried(str(value)) for name, value in asdict(facts).items()}


def environment(facts: Facts, base: Mapping[str, str]) -> dict[str, str]:
    """A command's environment: ours, without what an outer run had set, and the facts."""
    kept = {name: value for name, value in base.items() if not name.startswith(PREFIX)}
    return {**kept, **variables(facts)}


def as_data(facts: Facts) -> dict[str, object]:
    """As JSON data. Text that is no Unicode is mended."""
    return {name: _mended(value) if isinstance(value, str) else value for name, value in asdict(facts).items()}


def _carried(text: str) -> str:
    return _mended(text).replace("\0", "")[:VALUE_CHARACTERS_MAX]


def _mended(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
