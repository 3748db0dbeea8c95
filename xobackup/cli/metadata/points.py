"""Pool backups the way a person names them: a pool by uuid or name, a point by its time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xobackup.cli.errors import NotThere
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from xobackup.repository.findings import Problem
    from xobackup.repository.pools.backups import PoolBackups
    from xobackup.repository.pools.point import PoolPoint

LATEST = "latest"
OfOption = Annotated[
    str | None, typer.Option("--of", metavar="POOL", help="Only this pool's backups: its uuid or its name.")
]
PointArgument = Annotated[
    str, typer.Argument(metavar="[POINT]", help="A backup (or how its id begins), as `metadata show` lists them.")
]


def each(config: Path | None, remote: str | None) -> Iterator[tuple[str, PoolBackups]]:
    """Every remote meant, opened while it is its turn; one that cannot be opened does not keep the others."""
    from remotes.errors import RemoteError
    from xobackup.cli import repositories

    failed: list[RemoteError] = []
    for target in repositories.remote_targets(config, remote):
        with contextlib.ExitStack() as stack:
            try:
                backups = stack.enter_context(repositories.opened(target)).pools()
            except RemoteError as error:
                failed.append(error)
                continue
            yield target.name, backups
    if failed:
        raise failed[0]


def of_pool(points: Iterable[PoolPoint], given: str | None) -> list[PoolPoint]:
    """Those of the pool ``given`` by uuid or by the name it had in any of them; all when none is given."""
    found = list(points)
    if given is None:
        return found
    uuids = {point.pool_uuid for point in found if given in (point.pool_uuid, name_of(point))}
    if len(uuids) > 1:
        known = ", ".join(sorted(uuids))
        raise NotThere(f"{len(uuids)} pools are called {given!r}: {known}", hint="give the uuid of the one you mean")
    return [point for point in found if point.pool_uuid in uuids]


def find_point(points: Iterable[PoolPoint], given: str) -> PoolPoint:
    """The point of that id, ``latest``, or the only one whose id begins like that."""
    known = sorted(points, key=lambda point: point.id)
    if given == LATEST and known:
        return known[-1]
    exact = [point for point in known if point.id == given]
    found = exact or [point for point in known if point.id.startswith(given)]
    if len(found) == 1:
        return found[0]
    told = ", ".join(point.id for point in known[-5:]) or "none"
    if found:
        schedules = sorted({point.schedule_id for point in found})
        problem = f"matches {len(found)} backups of {len(schedules)} schedules"
    else:
        problem = "is no backup of a pool"
    raise NotThere(f"{given!r} {problem} (newest: {told})", hint="see `xobackup metadata list`")


def name_of(point: PoolPoint) -> str:
    """The pool's name; that of its master when it has none, as single hosts do."""
    return point.pool_name or point.master_name or point.pool_uuid


def point_data(remote: str, point: PoolPoint) -> dict[str, Any]:
    """JSON data of one backup."""
    return {
        "remote": remote,
        "pool": point.pool_uuid,
        "name": name_of(point),
        "id": point.id,
        "timestamp_ms": point.timestamp_ms,
        "schedule_id": point.schedule_id,
        "job_id": point.job_id,
        "job": point.job_name,
        "master": point.master_name,
        "version": point.version,
        "size_bytes": point.size,
    }


def tell(output: Output, problems: Iterable[Problem]) -> int:
    """Say what a listing had to complain about; returns how much of it is proven damage."""
    damaged = 0
    for problem in problems:
        damaged += problem.severity == "damage"
        fields = {"code": problem.code, "severity": problem.severity, "path": problem.path}
        output.record("problem", {**fields, "message": problem.message})
        output.note(str(problem), style="red" if problem.severity == "damage" else "yellow")
    return damaged
