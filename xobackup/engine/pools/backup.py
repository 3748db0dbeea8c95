"""The database of one pool, fetched once and written to every remote.

The dump is judged while it passes: a remote publishes it only when it was XML to its end, named this pool, and the
pool's task had succeeded. A remote that fails drops out; the others go on. What was published stays, whatever comes
after. Old backups are deleted last, and only where a new one was published.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xobackup.engine import events, keys
from xobackup.engine.active import POOL_BACKUP, Active, marked_active
from xobackup.engine.context import RunContext
from xobackup.engine.errors import AllSinksFailed, TransferMismatch
from xobackup.engine.held import held_told
from xobackup.engine.pools.describe import PoolRecords, pool_records
from xobackup.engine.target import SINK_ERRORS
from xobackup.repository.layout import timestamp_name
from xobackup.repository.pools.dump import BadDump, DumpReader, DumpSummary
from xobackup.repository.pools.point import PoolDraft
from xobackup.xapi.pool_database import open_dump

if TYPE_CHECKING:
    from xobackup.repository.pools.backups import PoolBackups
    from xobackup.repository.pools.writer import PoolWriter
    from xobackup.xapi.pool_database import DatabaseDump

PIECE_BYTES = 1 << 20
AHEAD_S = 2.0
"""A newest backup that much ahead of the clock is waited for: names must grow."""


@dataclass(slots=True, kw_only=True)
class PoolDone:
    """What has happened so far, also when the rest failed."""

    records: PoolRecords | None = None
    summary: DumpSummary | None = None
    size_bytes: int = 0
    points: dict[str, str] = field(default_factory=dict)
    expired: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)


class PoolBackup:
    """One attempt for one pool."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._world = context.world
        self.done = PoolDone()

    def run(self) -> None:
        """Raises when nothing was published; remotes that failed beside others are in ``done.failures``."""
        context, job = self._context, self._context.job
        records = self.done.records = pool_records(context.session)
        active = Active(
            run_id=context.run_id,
            job_id=job.id,
            job=job.name,
            pool_uuid=records.uuid,
            vm_uuid=records.uuid,
            since_s=self._world.clock.now_s(),
            kind=POOL_BACKUP,
        )
        with marked_active(self._world.active_directory, active), ExitStack() as held:
            backups = self._opened()
            draft = self._draft(records, backups)
            writers = self._begun(backups, draft, held)
            self._transfer(records, writers)
            self._publish(writers)
            self._expire(backups)

    def _opened(self) -> dict[str, PoolBackups]:
        """The remotes, tidied of what dead runs left."""
        backups: dict[str, PoolBackups] = {}
        schedule, pool = self._context.job.schedule_id, self._pool

        def open_one(name: str) -> None:
            found = self._context.repositories[name].pools()
            for finding in found.clean_parts(schedule, pool):
                what = f"{finding.problem.path} on {name}"
                self._world.journal.write(events.LeftoverCleaned(vm="", what=what, reason=finding.reason))
            backups[name] = found

        self._each(list(self._context.repositories), open_one)
        return backups

    def _draft(self, records: PoolRecords, backups: dict[str, PoolBackups]) -> PoolDraft:
        """Dated now; a moment later when a backup of this very second is there already."""
        job, clock = self._context.job, self._world.clock
        newest: dict[str, str] = {}

        def look(name: str) -> None:
            newest[name] = backups[name].newest(job.schedule_id, records.uuid)

        self._each([name for name in backups if name not in self.done.failures], look)
        latest = max(newest.values(), default="")
        limit = timestamp_name(int((clock.now_s() + AHEAD_S) * 1000))
        while timestamp_name(int(clock.now_s() * 1000)) <= latest <= limit:
            self._world.cancel.sleep(clock, 0.25)
        return PoolDraft(
            job_id=job.id,
            job_name=job.name,
            schedule_id=job.schedule_id,
            schedule_name=job.name,
            timestamp_ms=int(clock.now_s() * 1000),
            pool=records.pool,
            master=records.master,
        )

    def _begun(self, backups: dict[str, PoolBackups], draft: PoolDraft, held: ExitStack) -> dict[str, PoolWriter]:
        writers: dict[str, PoolWriter] = {}

        def begin(name: str) -> None:
            writers[name] = held.enter_context(backups[name].begin(draft, run=self._context.run_id))

        self._each([name for name in backups if name not in self.done.failures], begin)
        return writers

    def _transfer(self, records: PoolRecords, writers: dict[str, PoolWriter]) -> None:
        """The dump to every writer; those that fail are taken out of ``writers``."""
        world, what = self._world, f"dump of pool {records.name}"
        meter = world.progress.meter(f"database of {records.name}", stage="dump")
        try:
            label = keys.task_label(self._context.run_id, what)
            with (
                open_dump(self._context.session, task_label=label, should_stop=self._stopped) as dump,
                world.cancel.waking(dump.cancel),
            ):
                self.done.summary = self._pump(dump, writers, meter.add)
                dump.finish()
        finally:
            world.progress.drop(meter)
        found = self.done.summary.pool
        if found is None or found.uuid != records.uuid:
            raise TransferMismatch(what, records.uuid, found.uuid if found else "no pool")

    def _pump(self, dump: DatabaseDump, writers: dict[str, PoolWriter], seen: Callable[[int], None]) -> DumpSummary:
        reader = DumpReader()
        buffer = memoryview(bytearray(PIECE_BYTES))
        count = 0

        def write(name: str) -> None:
            writers[name].write(buffer[:count])

        try:
            while count := dump.readinto(buffer):
                reader.feed(buffer[:count])
                self._world.throttle.take(count, self._world.cancel)
                self._each(list(writers), write, writers)
                self.done.size_bytes += count
                seen(count)
            return reader.finish()
        except BadDump as error:
            raise dump.explain() or error from error

    def _publish(self, writers: dict[str, PoolWriter]) -> None:
        records = self.done.records
        assert records is not None

        def publish(name: str) -> None:
            point = writers[name].publish()
            self.done.points[name] = point.id
            self._world.journal.write(
                events.PoolSaved(
                    pool=records.uuid, pool_name=records.name, remote=name, point=point.id, size_bytes=point.size
                )
            )

        self._world.cancel.check()
        self._each(list(writers), publish)

    def _expire(self, backups: dict[str, PoolBackups]) -> None:
        job = self._context.job
        keep = job.settings.pool_metadata_retention

        def expire(name: str) -> None:
            held = backups[name].held_by_lock(job.schedule_id, self._pool, keep)
            if held:
                reason = held_told(held.values())
                event = events.HeldByLock(vm=self._pool, remote=name, points=sorted(held), reason=reason)
                self._world.journal.write(event)
            gone = backups[name].expire(job.schedule_id, self._pool, keep, run=self._context.run_id)
            if gone:
                self.done.expired[name] = [point.id for point in gone]
                reason = f"retention keeps {keep}"
                self._world.journal.write(
                    events.PoolPointsExpired(
                        pool=self._pool, remote=name, points=[point.id for point in gone], reason=reason
                    )
                )

        self._each(list(self.done.points), expire, required=False)

    def _stopped(self) -> bool:
        return self._world.cancel.cancelled

    @property
    def _pool(self) -> str:
        assert self.done.records is not None
        return self.done.records.uuid

    def _each(
        self,
        names: list[str],
        action: Callable[[str], None],
        among: dict[str, PoolWriter] | None = None,
        *,
        required: bool = True,
    ) -> None:
        """Do something with every remote; one that fails drops out (of ``among`` too), the last one raises."""
        left = len(names)
        for name in names:
            try:
                action(name)
            except SINK_ERRORS as error:
                left -= 1
                self._dropped(name, error)
                if among is not None:
                    among.pop(name).abandon()
        if required and not left:
            raise AllSinksFailed(f"pool {self._context.pool}", self.done.failures)

    def _dropped(self, name: str, error: BaseException) -> None:
        self.done.failures.setdefault(name, error)
        self._world.journal.write(
            events.Failed(
                remote=name,
                error=f"remote {name}: {error}",
                error_class=type(error).__name__,
                hint=getattr(error, "hint", "") or "",
            )
        )
