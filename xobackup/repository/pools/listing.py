"""Which pool backups a remote holds, and what else is there. Never raises for content, never changes anything.

A point exists when its ``metadata.json`` can be read and understood and its ``data`` is there. Everything else is a
problem: named, counted by no retention, deleted by nobody but a clean-up that was asked to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remotes.contract import Entry, Kind, Remote
from remotes.errors import Corrupt, NotADirectory, NotFound, RemoteError
from xobackup.repository.errors import BadMetadata
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.json_text import parse_object
from xobackup.repository.layout import DATA, is_uuid, timestamp_of
from xobackup.repository.pools.layout import (
    CONFIG_BACKUPS,
    METADATA,
    POOL_BACKUPS,
    data_of,
    metadata_of,
    pool_directory,
)
from xobackup.repository.pools.point import METADATA_BYTES_MAX, ConfigPoint, PoolPoint, parse_pool_point


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolListing:
    """Points by pool and schedule, oldest first; and what is wrong with the rest."""

    points: tuple[PoolPoint, ...]
    problems: tuple[Problem, ...] = ()


def list_pools(remote: Remote, *, pool: str | None = None) -> PoolListing:
    """Every point of every pool (or of one) by every schedule. A listing that fails raises."""
    points: list[PoolPoint] = []
    problems: list[Problem] = []
    for schedule in _directories(remote, POOL_BACKUPS):
        for found in _directories(remote, f"{POOL_BACKUPS}/{schedule}"):
            if pool in (None, found):
                listed = list_pool(remote, schedule, found)
                points += listed.points
                problems += listed.problems
    return PoolListing(points=tuple(sorted(points, key=_order)), problems=tuple(problems))


def list_pool(remote: Remote, schedule: str, pool: str) -> PoolListing:
    """The points of one pool by one schedule."""
    directory = pool_directory(schedule, pool)
    points: list[PoolPoint] = []
    problems: list[Problem] = []
    for entry in _entries(remote, directory):
        path = f"{directory}/{entry.name}"
        if timestamp_of(entry.name) is None or entry.kind is not Kind.DIRECTORY:
            message = "not a pool backup: expected a directory named by a time"
            problems.append(Problem(code="foreign-file", severity=Severity.WARNING, path=path, message=message))
            continue
        try:
            points.append(_point(remote, schedule, pool, entry.name, path))
        except BadMetadata as error:
            problems.append(
                Problem(code=error.code, severity=Severity.DAMAGE, path=error.name, message=error.problem)
            )
        except Corrupt as error:
            problems.append(
                Problem(code="metadata-corrupt", severity=Severity.DAMAGE, path=path, message=error.problem)
            )
        except RemoteError as error:
            message = f"could not be read: {error}"
            problems.append(Problem(code="metadata-unread", severity=Severity.UNKNOWN, path=path, message=message))
    return PoolListing(points=tuple(sorted(points, key=_order)), problems=tuple(problems))


def list_configs(remote: Remote) -> tuple[ConfigPoint, ...]:
    """Xen Orchestra's configuration backups, as far as they can be read."""
    found: list[ConfigPoint] = []
    for schedule in _directories(remote, CONFIG_BACKUPS):
        for entry in _entries(remote, f"{CONFIG_BACKUPS}/{schedule}"):
            if timestamp_of(entry.name) is not None and entry.kind is Kind.DIRECTORY:
                found.append(_config(remote, schedule, entry.name))
    return tuple(sorted(found, key=lambda one: (one.schedule_id, one.id)))


def _point(remote: Remote, schedule: str, pool: str, name: str, path: str) -> PoolPoint:
    try:
        raw = remote.get(metadata_of(path), limit_bytes=METADATA_BYTES_MAX)
    except NotFound:
        raise BadMetadata(path, f"it has no {METADATA}: it was never finished", code="pool-partial") from None
    try:
        size = remote.stat(data_of(path)).size_bytes
    except NotFound:
        raise BadMetadata(path, f"it has no {DATA}: the dump is missing", code="pool-data-missing") from None
    return parse_pool_point(raw, schedule=schedule, pool=pool, point=name, size=size)


def _config(remote: Remote, schedule: str, name: str) -> ConfigPoint:
    path = f"{CONFIG_BACKUPS}/{schedule}/{name}"
    job = ""
    try:
        value = parse_object(remote.get(metadata_of(path), limit_bytes=METADATA_BYTES_MAX), metadata_of(path))
        job = str(value.get("jobName", ""))
    except (BadMetadata, RemoteError):
        pass  # not ours to judge
    size = sum(entry.size_bytes for entry in _entries(remote, path) if entry.name.startswith(DATA))
    return ConfigPoint(id=name, schedule_id=schedule, size=size, job_name=job)


def _directories(remote: Remote, directory: str) -> Iterator[str]:
    """Sub-directories whose name is a uuid; the others are nobody's business here."""
    for entry in _entries(remote, directory):
        if entry.kind is Kind.DIRECTORY and is_uuid(entry.name):
            yield entry.name


def _entries(remote: Remote, directory: str) -> list[Entry]:
    try:
        return remote.list(directory)
    except (NotFound, NotADirectory):
        return []


def _order(point: PoolPoint) -> tuple[str, str, str]:
    return point.pool_uuid, point.id, point.schedule_id
