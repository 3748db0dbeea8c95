"""What does not belong among the pool backups: parts of interrupted runs, points that are none, lost digests.

``plan`` looks, ``apply`` acts and looks again first. A part of ours is deleted when nobody has written to it for an
hour by the storage's clock. What is in Xen Orchestra's tree and is no point is moved to ``.xobackup/quarantine/``:
a dump without its description may be all that is left. Configuration backups are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from remotes.contract import Entry, Kind, Remote
from remotes.errors import AlreadyExists, NotADirectory, NotFound, RemoteError
from xobackup.repository.findings import Action, CleanFinding, Problem, Severity
from xobackup.repository.layout import PRIVATE, is_uuid
from xobackup.repository.pools.layout import DIGESTS, PART_SUFFIX, PARTS, POOL_BACKUPS
from xobackup.repository.pools.listing import list_pools

STALE_S = 3600.0
"""No writer is silent for that long: a transfer's idle limit is five minutes."""
QUARANTINE = f"{PRIVATE}/quarantine/pools"


@dataclass(slots=True, kw_only=True)
class PoolCleanReport:
    """What was done, and what was left although it was proposed."""

    done: list[CleanFinding] = field(default_factory=list)
    left: list[CleanFinding] = field(default_factory=list)


def plan_pool_clean(remote: Remote, *, now_s: float) -> list[CleanFinding]:
    """What there is to clean. Changes nothing."""
    return [*_parts(remote, now_s), *_broken(remote, now_s), *_digests(remote, now_s)]


def apply_pool_clean(remote: Remote, findings: Iterable[CleanFinding], *, stamp: str) -> PoolCleanReport:
    """Do what is proposed, certain, and still so; ``stamp`` names the quarantine."""
    report = PoolCleanReport()
    wanted = [one for one in findings if one.certain and one.action is not Action.NONE]
    if not wanted:
        return report
    still = {
        (one.problem.path, one.action) for one in plan_pool_clean(remote, now_s=_storage_now(remote)) if one.certain
    }
    for finding in wanted:
        path = finding.problem.path
        if (path, finding.action) not in still:
            report.left.append(finding)
            continue
        try:
            _act(remote, finding, stamp)
            report.done.append(finding)
        except (RemoteError, NotFound):
            report.left.append(finding)
    return report


def clean_parts(remote: Remote, schedule: str, pool: str, *, stamp: str) -> list[CleanFinding]:
    """Delete dead parts of one pool by one schedule: what a run does before it begins."""
    inside = f"{PARTS}/{schedule}/{pool}/"
    if not _entries(remote, inside.rstrip("/")):
        return []
    found = [one for one in _parts(remote, _storage_now(remote)) if one.problem.path.startswith(inside)]
    return apply_pool_clean(remote, found, stamp=stamp).done


def _act(remote: Remote, finding: CleanFinding, stamp: str) -> None:
    path = finding.problem.path
    if finding.action is Action.QUARANTINE:
        try:
            remote.rename(path, f"{QUARANTINE}/{stamp}/{path.removeprefix(POOL_BACKUPS + '/')}")
        except AlreadyExists:
            raise RemoteError(remote.url, path, "something of that name is in quarantine already") from None
    elif path.startswith(DIGESTS):
        remote.delete(path, missing_ok=True)
    else:
        remote.delete_tree(path)


def _parts(remote: Remote, now_s: float) -> list[CleanFinding]:
    found: list[CleanFinding] = []
    for directory in _pool_directories(remote, PARTS):
        for entry in _entries(remote, directory):
            path = f"{directory}/{entry.name}"
            if not entry.name.endswith(PART_SUFFIX):
                continue
            dead = now_s - _last_write_s(remote, path, entry) > STALE_S
            problem = Problem(
                code="pool-part",
                severity=Severity.INFO,
                path=path,
                message="a pool backup that was being written, or deleted",
            )
            reason = "nobody has written to it for an hour" if dead else "it may be being written right now"
            found.append(CleanFinding(problem=problem, action=Action.DELETE, certain=dead, reason=reason))
    return found


def _broken(remote: Remote, now_s: float) -> list[CleanFinding]:
    found: list[CleanFinding] = []
    for problem in list_pools(remote).problems:
        path = problem.path.removesuffix("/metadata.json")
        if problem.severity is not Severity.DAMAGE:
            reason = "it was not understood" if problem.severity is Severity.UNKNOWN else problem.message
            found.append(CleanFinding(problem=problem, action=Action.NONE, certain=False, reason=reason))
            continue
        moved = Problem(code=problem.code, severity=problem.severity, path=path, message=problem.message)
        old = now_s - _last_write_s(remote, path, None) > STALE_S
        reason = "it is no backup of a pool" if old else "it may be being written right now"
        found.append(CleanFinding(problem=moved, action=Action.QUARANTINE, certain=old, reason=reason))
    return found


def _digests(remote: Remote, now_s: float) -> list[CleanFinding]:
    found: list[CleanFinding] = []
    for directory in _pool_directories(remote, DIGESTS):
        place = f"{POOL_BACKUPS}/{directory.removeprefix(DIGESTS + '/')}"
        points = {entry.name for entry in _entries(remote, place)}
        living = _living(remote, directory.replace(DIGESTS, PARTS, 1), now_s)
        for entry in _entries(remote, directory):
            if entry.name.removesuffix(".json") not in points | living:
                problem = Problem(
                    code="pool-digest-lost",
                    severity=Severity.INFO,
                    path=f"{directory}/{entry.name}",
                    message="the digest of a pool backup that is gone",
                )
                reason = "its backup was deleted"
                found.append(CleanFinding(problem=problem, action=Action.DELETE, certain=True, reason=reason))
    return found


def _living(remote: Remote, directory: str, now_s: float) -> set[str]:
    """Ids of points that may be being written right now: their digests come before them."""
    parts = [entry for entry in _entries(remote, directory) if entry.name.endswith(PART_SUFFIX)]
    return {
        entry.name.partition(".")[0]
        for entry in parts
        if now_s - _last_write_s(remote, f"{directory}/{entry.name}", entry) <= STALE_S
    }


def _last_write_s(remote: Remote, path: str, entry: Entry | None) -> float:
    times = [entry.modified_s] if entry is not None else []
    times += [one.modified_s for one in _entries(remote, path)]
    if not times:
        try:
            times = [remote.stat(path).modified_s]
        except NotFound:
            return 0.0
    return max(times)


def _storage_now(remote: Remote) -> float:
    """By the storage's own clock: ours may be wrong."""
    remote.make_directory(PARTS)
    return remote.touch(PARTS)


def _pool_directories(remote: Remote, root: str) -> list[str]:
    return [
        f"{root}/{schedule.name}/{pool.name}"
        for schedule in _entries(remote, root)
        if schedule.kind is Kind.DIRECTORY and is_uuid(schedule.name)
        for pool in _entries(remote, f"{root}/{schedule.name}")
        if pool.kind is Kind.DIRECTORY and is_uuid(pool.name)
    ]


def _entries(remote: Remote, directory: str) -> list[Entry]:
    try:
        return remote.list(directory)
    except (NotFound, NotADirectory):
        return []
