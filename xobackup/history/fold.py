"""A run's journal, folded into facts. Pure.

Takes what :func:`xobackup.engine.journal.read_journal` gives, of a run that ended, was interrupted, or still goes on;
records of unknown kinds (a newer version's) are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xobackup.history.facts import (
    INTERRUPTED,
    RUNNING,
    CheckFacts,
    DiskFacts,
    MessageFacts,
    PhaseFacts,
    PointFacts,
    PoolFacts,
    RunFacts,
    SoundnessFacts,
    SubjectFacts,
    TrafficFacts,
)

TEXT_MAX = 4000
"""Characters of a text that are kept: an error may quote a whole answer."""
SAMPLED_MIN_BYTES = 128 << 10
"""Of a disk's content, below which a sample tells nothing."""
BLOCKS = "blocks"
DAMAGE = {"IntegrityError", "Corrupt"}
"""Classes of errors that say that what is stored is not what was written."""
DAMAGE_HINT = "`xobackup verify` says what is damaged, `xobackup repair` looks for copies of it"

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


def _share(value: object) -> float | None:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, int | float) else None


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
            packed=_share(record.get("packed")) if _number(record, "sampled_bytes") >= SAMPLED_MIN_BYTES else None,
            chain=_number(record, "chain") if "chain" in record else None,
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


def _lost(run: RunFacts, record: Record) -> None:
    told = f"worker {_text(record, 'worker')} was not heard of any more while it did this VM"
    _say(run, record, level="warning", text=told)


def _warned(run: RunFacts, record: Record) -> None:
    _say(run, record, level="warning", text=_text(record, "message"), code=_text(record, "code"))


def _failed(run: RunFacts, record: Record) -> None:
    _say(run, record, level="warning" if record.get("will_retry") else "error", text=_text(record, "error"))
    if _text(record, "error_class") in DAMAGE and record.get("vm"):
        one = run.subjects.get(str(record["vm"]))
        _sound(run, record, uuid=str(record["vm"]), name=one.name if one else "", damage=_text(record, "error"))


def _examined(run: RunFacts, record: Record) -> None:
    damage, uuid = _text(record, "damage"), _text(record, "uuid")
    if not uuid:
        return
    one = run.subjects.get(uuid)
    name = _text(record, "name") or (one.name if one else "")
    what, whole = _text(record, "what") or BLOCKS, record.get("whole") is True
    _sound(run, record, uuid=uuid, name=name, damage=damage, what=what, whole=whole)
    if damage:
        told = MessageFacts(
            at=_at(record),
            level="error",
            kind="examined",
            text=f"{name or uuid}: {damage}"[:TEXT_MAX],
            remote=_text(record, "remote"),
            error_class="damage",
            hint=_text(record, "hint") or DAMAGE_HINT,
        )
        (run.messages if one is None else one.messages).append(told)


def _sound(
    run: RunFacts, record: Record, *, uuid: str, name: str, damage: str, what: str = BLOCKS, whole: bool = False
) -> None:
    run.soundness.append(
        SoundnessFacts(
            at=_at(record),
            what=what,
            uuid=uuid,
            remote=_text(record, "remote"),
            name=name,
            damage=damage,
            hint=_text(record, "hint"),
            whole=whole,
        )
    )


def _pool_seen(run: RunFacts, record: Record) -> None:
    listed = record.get("unprotected")
    found = [
        {"uuid": str(one.get("uuid") or ""), "name": str(one.get("name") or "")[:TEXT_MAX]}
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, Mapping) and one.get("uuid")
    ]
    if pool := _text(record, "pool"):
        run.pools.append(PoolFacts(at=_at(record), pool=pool, vms=_number(record, "vms"), unprotected=found))


def _remarked(run: RunFacts, record: Record) -> None:
    reason = _text(record, "reason") or _text(record, "what")
    points = ", ".join(str(point) for point in record.get("points") or ())
    text = f"{points}: {reason}" if points else reason
    _say(run, record, level="info", text=text, code=_text(record, "code"))


def _say(run: RunFacts, record: Record, *, level: str, text: str, code: str = "") -> None:
    message = MessageFacts(
        at=_at(record),
        level=level,
        kind=str(record.get("kind")),
        text=text[:TEXT_MAX],
        remote=_text(record, "remote"),
        error_class=_text(record, "error_class") or _text(record, "why") or code,
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
        ok = record.get("ok") is True
        damage = "" if ok else f"{_text(record, 'point')} did not pass its health check: {_text(record, 'reason')}"
        _sound(run, record, uuid=one.uuid, name=one.name, damage=damage, what="boot", whole=ok)


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
    "worker-lost": _lost,
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
    "examined": _examined,
    "pool-seen": _pool_seen,
    "vm-ended": _ended,
    "pool-ended": _ended,
    "storage-used": _traffic,
    "run-ended": _run_ended,
    "run-interrupted": _run_interrupted,
}
