"""The pool backups of one remote: everything the engine and the command line do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from remotes.contract import ReadableFile, Remote
from xobackup.clock import Clock
from xobackup.repository.findings import CleanFinding
from xobackup.repository.layout import timestamp_name
from xobackup.repository.pools.clean import PoolCleanReport, apply_pool_clean, clean_parts, plan_pool_clean
from xobackup.repository.pools.expiry import delete_point, expire, expired, held_points
from xobackup.repository.pools.listing import PoolListing, list_configs, list_pool, list_pools
from xobackup.repository.pools.point import ConfigPoint, PoolDraft, PoolPoint
from xobackup.repository.pools.verify import PoolVerdict, verify_point
from xobackup.repository.pools.writer import PoolWriter, newest_of
from xobackup.repository.protection import Held


class PoolBackups:
    """See the module's head; made by :meth:`xobackup.repository.repository.Repository.pools`."""

    def __init__(self, remote: Remote, *, clock: Clock) -> None:
        self.remote = remote
        self._clock = clock

    def points(self, *, pool: str | None = None) -> PoolListing:
        """Every point, or those of one pool."""
        return list_pools(self.remote, pool=pool)

    def of_schedule(self, schedule: str, pool: str) -> PoolListing:
        """What retention judges."""
        return list_pool(self.remote, schedule, pool)

    def configs(self) -> tuple[ConfigPoint, ...]:
        """Xen Orchestra's configuration backups: only to be told about."""
        return list_configs(self.remote)

    def newest(self, schedule: str, pool: str) -> str:
        """The id of the newest point, ``""`` when there is none."""
        return newest_of(self.remote, schedule, pool)

    def begin(self, draft: PoolDraft, *, run: str) -> PoolWriter:
        """Begin a point; see :class:`PoolWriter`."""
        return PoolWriter(self.remote, draft, run=run)

    def expire(self, schedule: str, pool: str, keep: int, *, run: str) -> list[PoolPoint]:
        """Keep the newest ``keep`` whole points, and what is locked; returns what was deleted."""
        return expire(self.remote, schedule, pool, keep, run=run, now_s=self._clock.now_s())

    def held_by_lock(self, schedule: str, pool: str, keep: int) -> dict[str, Held]:
        """What is more than ``keep`` and stays because a lock keeps it, by id."""
        old = expired(list_pool(self.remote, schedule, pool).points, keep)
        return held_points(self.remote, old, now_s=self._clock.now_s())

    def delete(self, point: PoolPoint, *, run: str) -> None:
        delete_point(self.remote, point, run=run)

    def open(self, point: PoolPoint) -> ReadableFile:
        """The dump."""
        return self.remote.open(point.data)

    def verify(self, point: PoolPoint, *, seen: Callable[[int], None] = lambda _: None) -> PoolVerdict:
        """Read the dump and judge it."""
        return verify_point(self.remote, point, seen=seen)

    def clean_plan(self) -> list[CleanFinding]:
        """What lies about; changes nothing."""
        return plan_pool_clean(self.remote, now_s=self._clock.now_s())

    def clean_apply(self, findings: Iterable[CleanFinding]) -> PoolCleanReport:
        return apply_pool_clean(self.remote, findings, stamp=self._stamp())

    def clean_parts(self, schedule: str, pool: str) -> list[CleanFinding]:
        """Delete what dead runs left of one pool's points."""
        return clean_parts(self.remote, schedule, pool, stamp=self._stamp())

    def _stamp(self) -> str:
        return timestamp_name(int(self._clock.now_s() * 1000))
