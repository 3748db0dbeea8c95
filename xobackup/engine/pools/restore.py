"""A pool's database put back: first judged here, then tried by the pool, and only then, if asked to, for real.

Judging reads the whole dump: it must be XML to its end, what was written, and of the pool its place names. Then the
pool it is meant for is compared with it. What would surely be a mistake is refused (another pool's database, another
number of hosts, another product version); ``force`` turns those refusals into warnings, for a pool installed anew.

A real restore ends every session and restarts the master into the dump. So its own success is looked for afterwards:
the pool must answer again, with the dump's pool and VMs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from xobackup.engine import events, keys
from xobackup.engine.errors import EngineError, IntegrityError
from xobackup.engine.leftovers.clean import recover
from xobackup.engine.pools.describe import PoolRecords, pool_records
from xobackup.xapi.errors import OutcomeUnknown, TransferCancelled, TransportError, XapiError
from xobackup.xapi.pool_database import open_restore

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.repository.pools.backups import PoolBackups
    from xobackup.repository.pools.dump import DumpSummary
    from xobackup.repository.pools.point import PoolPoint
    from xobackup.xapi.session import Session

PIECE_BYTES = 1 << 20
LOOK_EVERY_S = 5.0
ANSWER_S = 900.0
"""How long a master may take to come back: it boots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRestorePlan:
    """A dump and the pool it is meant for. ``refusals`` forbid a real restore."""

    point: PoolPoint
    summary: DumpSummary
    pool_uuid: str
    pool_name: str
    started: str
    """When the master's toolstack began: a restore makes it begin anew."""
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """JSON data, stable keys."""
        return {
            "point": self.point.id,
            "size_bytes": self.point.size,
            "dump": self.summary.as_data(),
            "pool": self.pool_uuid,
            "pool_name": self.pool_name,
            "refusals": list(self.refusals),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRestored:
    """How a real restore ended. ``problems``: what the pool does not have as the dump says."""

    pool_uuid: str
    point: str
    answers: bool
    problems: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def plan_pool_restore(
    world: World, session: Session, backups: PoolBackups, point: PoolPoint, *, force: bool = False
) -> PoolRestorePlan:
    """Judge the dump and compare it with the pool. Raises :class:`IntegrityError` for a bad dump."""
    meter = world.progress.meter(f"database of {point.pool_name or point.pool_uuid}", total_bytes=point.size)
    meter.begin("verify", total_bytes=point.size)

    def seen(count: int) -> None:
        meter.add(count)
        world.cancel.check()

    try:
        verdict = backups.verify(point, seen=seen)
    finally:
        world.progress.drop(meter)
    if verdict.summary is None or verdict.problems:
        told = "; ".join(problem.message for problem in verdict.problems)
        raise IntegrityError(
            f"backup {point.id} of pool {point.pool_name or point.pool_uuid}: {told}",
            hint="take another one: `xobackup metadata verify` says which are whole",
        )
    now = pool_records(session)
    refusals = _refusals(point, verdict.summary, now)
    warnings = _warnings(verdict.summary, now)
    if not verdict.with_digest:
        warnings.append("nothing is known of what was written: only the structure of the dump was judged")
    return PoolRestorePlan(
        point=point,
        summary=verdict.summary,
        pool_uuid=now.uuid,
        pool_name=now.name,
        started=now.started,
        refusals=() if force else tuple(refusals),
        warnings=(*refusals, *warnings) if force else tuple(warnings),
    )


def _refusals(point: PoolPoint, dump: DumpSummary, now: PoolRecords) -> list[str]:
    """Why this dump does not belong into this pool."""
    found: list[str] = []
    assert dump.pool is not None
    if dump.pool.uuid != now.uuid:
        found.append(f"it is the database of pool {dump.pool.uuid} ({point.pool_name}), this is pool {now.uuid}")
    hosts = {str(host.get("uuid")) for host in now.hosts}
    if len(dump.hosts) != len(hosts):
        found.append(f"it names {len(dump.hosts)} hosts, the pool has {len(hosts)}")
    elif strangers := sorted(host.name or host.uuid for host in dump.hosts if host.uuid not in hosts):
        found.append(f"the pool does not have its hosts {', '.join(strangers)}")
    if point.version and now.version and point.version != now.version:
        found.append(f"it was written by version {point.version}, the pool runs {now.version}")
    return found


def _warnings(dump: DumpSummary, now: PoolRecords) -> list[str]:
    """What a real restore does besides."""
    found = [
        "the master reboots into the dump: VMs running on it go down, sessions and tasks end, and what was made "
        "since the backup is forgotten (disks stay on the storage)"
    ]
    if len(now.hosts) > 1:
        found.append("hosts other than the master may have to join the pool again")
    if dump.master and dump.master.uuid != now.master.get("uuid"):
        found.append(f"another host was master then: {dump.master.name or dump.master.uuid}")
    return found


def try_pool_restore(world: World, session: Session, backups: PoolBackups, plan: PoolRestorePlan) -> None:
    """Let the pool say whether it would take the dump. Changes nothing; raises what it says."""
    try:
        _send(world, session, backups, plan, dry_run=True)
    except XapiError as error:
        _tell_tried(world, plan, str(error))
        raise
    _tell_tried(world, plan, "")


def restore_pool(
    world: World,
    session: Session,
    backups: PoolBackups,
    plan: PoolRestorePlan,
    *,
    connect: Callable[[], Session],
    answer_s: float = ANSWER_S,
) -> PoolRestored:
    """The real thing; ``connect`` logs in anew to see how it went. Refused unless the plan is clean."""
    if plan.refusals:
        raise EngineError(
            f"refused: {'; '.join(plan.refusals)}", hint="--force, if that is what is meant (a pool installed anew)"
        )
    recover(world, session, plan.pool_uuid)
    try_pool_restore(world, session, backups, plan)
    world.cancel.check()
    doubt = ""
    try:
        _send(world, session, backups, plan, dry_run=False)
    except (OutcomeUnknown, TransportError) as error:
        doubt = str(error)  # it restarts: whether it took the dump is seen when it is back
    except XapiError as error:
        if not error.outcome_unknown:
            raise
        doubt = str(error)
    restored = _look(world, plan, connect, answer_s, doubt)
    world.journal.write(
        events.PoolRestored(
            pool=plan.pool_uuid,
            point=plan.point.id,
            answers=restored.answers,
            reason="; ".join(restored.problems),
        )
    )
    return restored


def _send(world: World, session: Session, backups: PoolBackups, plan: PoolRestorePlan, *, dry_run: bool) -> None:
    what = "trial" if dry_run else "restore"
    size = plan.summary.size_bytes
    meter = world.progress.meter(f"database to {plan.pool_name}", total_bytes=size, stage=what)
    label = keys.task_label(world.new_id(), f"{what} of the database of pool {plan.pool_name}")
    file = backups.open(plan.point)
    try:
        with open_restore(
            session,
            length_bytes=size,
            dry_run=dry_run,
            task_label=label,
            should_stop=lambda: world.cancel.cancelled,
        ) as transfer:
            wake = transfer.cancel if dry_run else (lambda: None)  # a real one is not cut off half-way
            with world.cancel.waking(wake):
                buffer = memoryview(bytearray(PIECE_BYTES))
                offset = 0
                while offset < size and (count := file.read_into(offset, buffer[: min(len(buffer), size - offset)])):
                    transfer.write(buffer[:count])
                    offset += count
                    meter.add(count)
                transfer.finish()
    except TransferCancelled:
        world.cancel.check()
        raise
    finally:
        file.close()
        world.progress.drop(meter)


def _look(
    world: World, plan: PoolRestorePlan, connect: Callable[[], Session], answer_s: float, doubt: str
) -> PoolRestored:
    """Wait until the pool answers again, and compare it with the dump."""
    deadline = world.clock.monotonic_s() + answer_s
    while True:
        answers, problems, waiting = _asked(plan, connect)
        if not waiting or world.clock.monotonic_s() >= deadline or world.cancel.cancelled:
            break
        world.clock.sleep(LOOK_EVERY_S)
    if problems and doubt:
        problems.append(doubt)
    return PoolRestored(pool_uuid=plan.pool_uuid, point=plan.point.id, answers=answers, problems=tuple(problems))


def _asked(plan: PoolRestorePlan, connect: Callable[[], Session]) -> tuple[bool, list[str], bool]:
    """Whether the pool answers, what is not as the dump says, and whether to wait for it any longer."""
    try:
        session = connect()
        try:
            now = pool_records(session)
            if plan.started and now.started == plan.started:
                return True, ["the pool answers, but its master has not restarted"], True
            return True, _differences(plan, session, now), False
        finally:
            session.close()
    except XapiError as error:
        return False, [f"the pool does not answer: {error}"], True


def _differences(plan: PoolRestorePlan, session: Session, now: PoolRecords) -> list[str]:
    found: list[str] = []
    assert plan.summary.pool is not None
    if now.uuid != plan.summary.pool.uuid:
        found.append(f"expected pool {plan.summary.pool.uuid}, the pool says {now.uuid}")
    known = {str(record.get("uuid")) for record in session.records("VM").values()}
    if missing := [vm.name or vm.uuid for vm in plan.summary.vms if vm.uuid not in known]:
        found.append(f"the pool does not have {len(missing)} of the dump's VMs: {', '.join(missing[:5])}")
    return found


def _tell_tried(world: World, plan: PoolRestorePlan, reason: str) -> None:
    world.journal.write(events.PoolTried(pool=plan.pool_uuid, point=plan.point.id, ok=not reason, reason=reason))
