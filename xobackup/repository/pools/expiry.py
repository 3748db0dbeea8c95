"""Deleting pool backups: by count, or named. A point disappears in one step, then what it was made of.

Only whole points count, so that a run which left something broken never costs a good one; and only what the listing
understood is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from remotes.contract import Remote
from remotes.errors import AlreadyExists, NotFound, RemoteError
from xobackup.repository.pools.layout import data_of, metadata_of, part_directory
from xobackup.repository.pools.listing import list_pool
from xobackup.repository.pools.point import PoolPoint
from xobackup.repository.protection import Held, Locks


def expired(points: Iterable[PoolPoint], keep: int) -> list[PoolPoint]:
    """All but the newest ``keep`` of one pool's points by one schedule, oldest first. Pure."""
    assert keep >= 1, "the last good point is never the price of the next one"
    ordered = sorted(points, key=lambda point: point.id)
    return ordered[: max(0, len(ordered) - keep)]


def held_points(remote: Remote, points: Iterable[PoolPoint], *, now_s: float) -> dict[str, Held]:
    """Which of ``points`` a lock keeps from being deleted, by id."""
    locks = Locks(remote, now_s=now_s)
    found: dict[str, Held] = {}
    for point in points:
        names = [metadata_of(point.directory), data_of(point.directory)]
        if (held := locks.of(f"backup {point.id}", names)) is not None:
            found[point.id] = held
    return found


def expire(remote: Remote, schedule: str, pool: str, keep: int, *, run: str, now_s: float) -> list[PoolPoint]:
    """Delete what is more than ``keep`` and not locked; returns what was deleted."""
    old = expired(list_pool(remote, schedule, pool).points, keep)
    held = held_points(remote, old, now_s=now_s)
    gone = [point for point in old if point.id not in held]
    for point in gone:
        delete_point(remote, point, run=run)
    return gone


def delete_point(remote: Remote, point: PoolPoint, *, run: str) -> None:
    """Delete one point: renamed out of sight first, so that nobody meets half of it."""
    if remote.capabilities.atomic_rename and remote.capabilities.random_access:
        part = part_directory(point.schedule_id, point.pool_uuid, point.id, f"{run}-deleted")
        try:
            remote.rename(point.directory, part)
        except NotFound:
            return  # another run was quicker
        except AlreadyExists:
            remote.delete_tree(part)
            remote.rename(point.directory, part)
        with suppress(RemoteError):  # out of sight: the next clean-up finds it
            remote.delete_tree(part)
    else:
        remote.delete(metadata_of(point.directory), missing_ok=True)
        remote.delete(data_of(point.directory), missing_ok=True)
        with suppress(RemoteError):
            remote.delete_tree(point.directory)
    with suppress(RemoteError):  # a digest without a point is no harm
        remote.delete(point.digest, missing_ok=True)
