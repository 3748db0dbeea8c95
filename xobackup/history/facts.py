"""A run's journal, folded into facts: one record for the run, one for each VM or pool of it. Pure.

Takes what :func:`xobackup.engine.journal.read_journal` gives, of a run that ended, was interrupted, or still goes on;
records of unknown kinds (a newer version's) are passed over. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RUNNING = "running"
INTERRUPTED = "interrupted"
TEXT_MAX = 4000
"""Characters of a text that are kept: an error may quote a whole answer."""


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

    def count(self, outcome: str) -> int:
        return sum(1 for one in self.subjects.values() if one.outcome == outcome)

    @property
    def read_bytes(self) -> int:
        return sum(one.read_bytes for one in self.subjects.values())


Record = Mapping[str, Any]


def fold(records: Iterable[Record]) -> RunFacts | None:
    """The facts of one journal; ``None`` when its first line never got there."""
    run: RunFacts | None = None
    for record in records:
        kind = str(record.get("kind", ""))
        if kind == "run-started" and run is None:
            run = _started(record)
        if run is not None and kind in _FOLDS:
            _FOLDS[kind](run, record)
    if run is not None and run.ended_at is not None:
        _close(run)
    return run


def _started(record: Record) -> RunFacts:
    return RunFacts(
        run_id=_text(record, "run_id"),
        verb=_text(record, "verb"),
        job=_text(record, "job"),
        job_id=_text(record, "job_id"),
        version=_text(record, "version"),
        host=_text(record, "host"),
        began_at=_at(record),
    )


def _close(run: RunFacts) -> None:
    """What had not ended when its run did, never did."""
    for one in run.subjects.values():
        if one.outcome == RUNNING:
            one.outcome = INTERRUPTED
            one.ended_at = run.ended_at
            one.duration_s = max(0.0, (run.ended_at or 0) - one.began_at)


def _at(record: Record) -> float:
    return float(record.get("at_s", 0.0))


def _text(record: Record, key: str) -> str:
    return str(record.get(key) or "")[:TEXT_MAX]


def _number(record: Record, key: str) -> int:
    return int(record.get(key) or 0)


def _subject(run: RunFacts, record: Record, key: str = "vm") -> SubjectFacts | None:
    uuid = str(record.get(key) or "")
    if not uuid:
        return None
    one = run.subjects.get(uuid)
    if one is None:
        one = run.subjects[uuid] = SubjectFacts(uuid=uuid, kind=key, began_at=_at(record))
    one.name = str(record.get(f"{key}_name") or one.name)
    return one


def _planned(run: RunFacts, record: Record) -> None:
    one = _subject(run, record)
    plan = record.get("plan")
    if one is not None and isinstance(plan, Mapping):
        one.pool = str(plan.get("pool") or "")


def _skipped(run: RunFacts, record: Record) -> None:
    one = _subject(run, record)
    if one is not None:
        one.outcome, one.reason, one.ended_at = "skipped", _text(record, "reason"), _at(record)


def _phase_began(run: RunFacts, record: Record) -> None:
    if one := _subject(run, record):
        attempt = _number(record, "attempt") or 1
        one.phases.append(PhaseFacts(phase=_text(record, "phase"), attempt=attempt, began_at=_at(record)))


def _phase_ended(run: RunFacts, record: Record) -> None:
    one = _subject(run, record)
    if one is None:
        return
    name, attempt = _text(record, "phase"), _number(record, "attempt") or 1
    for phase in reversed(one.phases):
        if phase.phase == name and phase.attempt == attempt and phase.ok is None:
            phase.ok = bool(record.get("ok"))
            phase.duration_s = float(record.get("duration_s") or 0)
            phase.error = _text(record, "error")
            return


def _disk(run: RunFacts, record: Record) -> None:
    one = _subject(run, record)
    if one is None:
        return
    mode = _text(record, "mode")
    count = _number(record, "disks") or 1  # an archive holds several
    if mode == "full":
        one.fulls += count
    else:
        one.deltas += count
    reasons = [str(reason) for key in ("not_via", "notes") for reason in record.get(key) or ()]
    one.disks.append(
        DiskFacts(
            disk=_text(record, "disk"),
            name=_text(record, "disk_name"),
            mode=mode,
            via=_text(record, "via") or _text(record, "compression"),
            read_bytes=_number(record, "read_bytes"),
            blocks=_number(record, "blocks"),
            duration_s=float(record.get("duration_s") or 0),
            bottleneck=_text(record, "bottleneck"),
            reasons="; ".join(reasons)[:TEXT_MAX],
        )
    )


def _published(run: RunFacts, record: Record) -> None:
    one = _subject(run, record, "pool" if "pool" in record else "vm")
    if one is not None:
        remote, point = _text(record, "remote"), _text(record, "point")
        size = _number(record, "size_bytes")
        one.points.append(PointFacts(remote=remote, point=point, size_bytes=size, at=_at(record)))


def _merged(run: RunFacts, record: Record) -> None:
    if one := _subject(run, record):
        one.merged_blocks += _number(record, "blocks")
        one.merged_bytes += _number(record, "moved_bytes")


def _started_again(run: RunFacts, record: Record) -> None:
    if one := _subject(run, record):
        one.downtime_s += float(record.get("downtime_s") or 0)


def _fell_back(run: RunFacts, record: Record) -> None:
    if one := _subject(run, record):
        one.fallbacks += 1
    _say(run, record, level="warning", text=f"{_text(record, 'disk_name')}: {_text(record, 'reason')}")


def _warned(run: RunFacts, record: Record) -> None:
    _say(run, record, level="warning", text=_text(record, "message"))


def _failed(run: RunFacts, record: Record) -> None:
    _say(run, record, level="warning" if record.get("will_retry") else "error", text=_text(record, "error"))


def _remarked(run: RunFacts, record: Record) -> None:
    reason = _text(record, "reason") or _text(record, "what")
    points = ", ".join(str(point) for point in record.get("points") or ())
    _say(run, record, level="info", text=f"{points}: {reason}" if points else reason)


def _say(run: RunFacts, record: Record, *, level: str, text: str) -> None:
    message = MessageFacts(
        at=_at(record),
        level=level,
        kind=str(record.get("kind")),
        text=text[:TEXT_MAX],
        remote=_text(record, "remote"),
        error_class=_text(record, "error_class") or _text(record, "why"),
        hint=_text(record, "hint"),
    )
    one = _subject(run, record, "pool" if record.get("pool") else "vm")
    (run.messages if one is None else one.messages).append(message)


def _checked(run: RunFacts, record: Record) -> None:
    if one := _subject(run, record):
        one.checks.append(
            CheckFacts(
                at=_at(record),
                remote=_text(record, "remote"),
                point=_text(record, "point"),
                ok=bool(record.get("ok")),
                reason=_text(record, "reason"),
                duration_s=float(record.get("duration_s") or 0),
            )
        )


def _ended(run: RunFacts, record: Record) -> None:
    one = _subject(run, record, "pool" if "pool" in record else "vm")
    if one is None:
        return
    one.outcome, one.reason = _text(record, "outcome"), _text(record, "reason")
    one.attempts = _number(record, "attempts")
    one.duration_s = float(record.get("duration_s") or 0)
    one.read_bytes = _number(record, "read_bytes") or _number(record, "size_bytes")
    one.ended_at = _at(record)
    one.began_at = min(one.began_at, one.ended_at)


def _traffic(run: RunFacts, record: Record) -> None:
    requests = record.get("requests")
    run.traffic.append(
        TrafficFacts(
            remote=_text(record, "remote"),
            requests=sum(int(count) for count in requests.values()) if isinstance(requests, Mapping) else 0,
            repeated=_number(record, "repeated"),
            sent_bytes=_number(record, "sent_bytes"),
            received_bytes=_number(record, "received_bytes"),
        )
    )


def _run_ended(run: RunFacts, record: Record) -> None:
    run.outcome, run.reason = _text(record, "outcome"), _text(record, "reason")
    run.duration_s = float(record.get("duration_s") or 0)
    run.ended_at = _at(record)


def _run_interrupted(run: RunFacts, record: Record) -> None:
    """Said by a later start: when it died is not known, only when it was last heard of."""
    last = [one.began_at for one in run.subjects.values()]
    last += [one.ended_at for one in run.subjects.values() if one.ended_at]
    last += [phase.began_at for one in run.subjects.values() for phase in one.phases]
    run.outcome, run.reason = INTERRUPTED, _text(record, "reason")
    run.ended_at = max([run.began_at, *last])
    run.duration_s = run.ended_at - run.began_at


_FOLDS = {
    "vm-planned": _planned,
    "vm-skipped": _skipped,
    "phase-began": _phase_began,
    "phase-ended": _phase_ended,
    "disk-transferred": _disk,
    "archive-transferred": _disk,
    "point-published": _published,
    "pool-saved": _published,
    "merged": _merged,
    "vm-started": _started_again,
    "fell-back-to-full": _fell_back,
    "warning": _warned,
    "error": _failed,
    "points-expired": _remarked,
    "pool-points-expired": _remarked,
    "held-by-lock": _remarked,
    "snapshot-data-kept": _remarked,
    "stepped-down": _remarked,
    "leftover-cleaned": _remarked,
    "chains-awaited": _remarked,
    "waited": _remarked,
    "health-checked": _checked,
    "vm-ended": _ended,
    "pool-ended": _ended,
    "storage-used": _traffic,
    "run-ended": _run_ended,
    "run-interrupted": _run_interrupted,
}
