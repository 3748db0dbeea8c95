"""A run as facts: one record for the run, one for each VM or pool of it; what was examined, what pools held.

Made of a journal by :mod:`xobackup.history.fold`. Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RUNNING = "running"
INTERRUPTED = "interrupted"


@dataclass(slots=True, kw_only=True)
class DiskFacts:
    """One transfer of a disk."""

    disk: str
    name: str
    mode: str
    via: str
    read_bytes: int
    blocks: int
    duration_s: float
    bottleneck: str
    reasons: str
    packed: float | None = None
    chain: int | None = None


@dataclass(slots=True, kw_only=True)
class PhaseFacts:
    """One phase of one attempt. ``ok`` is ``None`` while it goes on, or when its process died in it."""

    phase: str
    attempt: int
    began_at: float
    duration_s: float | None = None
    ok: bool | None = None
    error: str = ""


@dataclass(slots=True, kw_only=True)
class PointFacts:
    """A restore point that was published."""

    remote: str
    point: str
    size_bytes: int
    at: float


@dataclass(slots=True, kw_only=True)
class MessageFacts:
    """A warning, an error, or why something was not done as usual. ``kind``: that of its event."""

    at: float
    level: str
    kind: str
    text: str
    remote: str = ""
    error_class: str = ""
    hint: str = ""


@dataclass(slots=True, kw_only=True)
class CheckFacts:
    """What was published was booted for trial."""

    at: float
    remote: str
    point: str
    ok: bool
    reason: str
    duration_s: float


@dataclass(slots=True, kw_only=True)
class SubjectFacts:
    """A VM in a run, or a pool whose database was saved (``kind = "pool"``)."""

    uuid: str
    kind: str = "vm"
    name: str = ""
    pool: str = ""
    outcome: str = RUNNING
    reason: str = ""
    began_at: float = 0.0
    ended_at: float | None = None
    duration_s: float = 0.0
    attempts: int = 0
    read_bytes: int = 0
    fulls: int = 0
    deltas: int = 0
    fallbacks: int = 0
    """Disks that were read whole although they were backed up before."""
    merged_blocks: int = 0
    merged_bytes: int = 0
    downtime_s: float = 0.0
    disks: list[DiskFacts] = field(default_factory=list)
    phases: list[PhaseFacts] = field(default_factory=list)
    points: list[PointFacts] = field(default_factory=list)
    messages: list[MessageFacts] = field(default_factory=list)
    checks: list[CheckFacts] = field(default_factory=list)

    @property
    def mode(self) -> str:
        """``full``, ``delta``, ``mixed``, or ``""`` when nothing was read."""
        kinds = {"full": self.fulls, "delta": self.deltas}
        present = [kind for kind, count in kinds.items() if count]
        return "mixed" if len(present) > 1 else "".join(present)

    @property
    def size_bytes(self) -> int:
        """Of the largest of its restore points: each remote has the same content."""
        return max((point.size_bytes for point in self.points), default=0)


@dataclass(slots=True, kw_only=True)
class TrafficFacts:
    """What was asked of a remote whose requests are counted."""

    remote: str
    requests: int
    repeated: int
    sent_bytes: int
    received_bytes: int


@dataclass(slots=True, kw_only=True)
class SoundnessFacts:
    """Backups of a VM on a remote were looked at; ``damage`` is empty when none was found. ``whole``: all of them."""

    at: float
    what: str
    uuid: str
    remote: str
    name: str
    damage: str
    hint: str
    whole: bool


@dataclass(slots=True, kw_only=True)
class PoolFacts:
    """What a pool held when it was asked."""

    at: float
    pool: str
    vms: int
    unprotected: list[dict[str, str]]


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """The run."""

    run_id: str
    verb: str = ""
    job: str = ""
    job_id: str = ""
    version: str = ""
    host: str = ""
    began_at: float = 0.0
    ended_at: float | None = None
    duration_s: float = 0.0
    outcome: str = RUNNING
    reason: str = ""
    subjects: dict[str, SubjectFacts] = field(default_factory=dict)
    messages: list[MessageFacts] = field(default_factory=list)
    """Of no single VM."""
    traffic: list[TrafficFacts] = field(default_factory=list)
    soundness: list[SoundnessFacts] = field(default_factory=list)
    pools: list[PoolFacts] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        return sum(1 for one in self.subjects.values() if one.outcome == outcome)

    @property
    def read_bytes(self) -> int:
        return sum(one.read_bytes for one in self.subjects.values())
