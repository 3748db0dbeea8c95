"""What a move is asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xobackup.engine.dr.spec import Readiness
from xobackup.engine.job import PoolTarget, SrTarget

ROUNDS_MAX = 6
SHORT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRequest:
    """``name``: of the move: its replicas and the VM there are found by it again. A word without blanks."""

    name: str
    vm_uuid: str
    source: PoolTarget
    target: SrTarget
    short_s: float = SHORT_S
    """A round that took at most so long is the last one before the stop."""
    rounds_max: int = ROUNDS_MAX
    shutdown_wait_s: float = 600.0
    ready: Readiness = field(default_factory=Readiness)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of replication."""

    duration_s: float
    read_bytes: int
    fulls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The VM runs there.

    ``reason``: why it is not known to be ready; empty when it is. ``downtime_s``: from the request to shut down to
    its last answer; 0 when it was halted.
    """

    vm_uuid: str
    new_uuid: str
    name: str
    rounds: tuple[Round, ...]
    downtime_s: float
    reason: str
    warnings: tuple[str, ...]


def enough(rounds: Sequence[Round], request: MoveRequest) -> bool:
    """Whether the next round may be the last one. Pure."""
    return bool(rounds) and (rounds[-1].duration_s <= request.short_s or len(rounds) >= request.rounds_max)
