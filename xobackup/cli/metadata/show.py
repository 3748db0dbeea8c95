"""``xobackup metadata list`` and ``show``: which backups of pools there are, and of Xen Orchestra's configuration."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.metadata.points import OfOption, each, name_of, of_pool, point_data, tell
from xobackup.cli.options import ConfigOption, JsonOption, RemoteOption
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from xobackup.repository.pools.backups import PoolBackups
    from xobackup.repository.pools.point import PoolPoint


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_)
    app.command("show")(show)


def list_(
    remote: RemoteOption = None, of: OfOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """The pools that have backups, on one remote or on all configured ones."""
    output = Output(as_json=as_json)
    damaged = 0
    for name, backups in each(config, remote):
        listing = backups.points()
        damaged += tell(output, listing.problems)
        pools: dict[str, list[PoolPoint]] = defaultdict(list)
        for point in of_pool(listing.points, of):
            pools[point.pool_uuid].append(point)
        for uuid, points in pools.items():
            data = {"remote": name, "uuid": uuid, "name": name_of(points[-1]), "points": len(points)}
            size = sum(point.size for point in points)
            output.record("pool", {**data, "oldest": points[0].id, "newest": points[-1].id, "size_bytes": size})
        if pools:
            columns = ["pool", "uuid!", "backups>!", "oldest!", "newest!", "size>!"]
            output.table(f"on {name}", columns, [_pool_row(uuid, points) for uuid, points in pools.items()])
        else:
            output.say(f"no backups of pools on {name}")
        _show_configs(output, name, backups)
    _end(damaged)


def show(
    of: OfOption = None, remote: RemoteOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Every backup: when, by which job, of which version."""
    output = Output(as_json=as_json)
    damaged = shown = 0
    for name, backups in each(config, remote):
        listing = backups.points()
        damaged += tell(output, listing.problems)
        points = of_pool(listing.points, of)
        shown += len(points)
        for point in points:
            output.record("pool-backup", point_data(name, point))
        if points:
            columns = ["backup!", "pool", "job", "master", "version!", "size>!"]
            output.table(f"on {name}", columns, [_point_row(point) for point in points])
    if not shown and of is not None:
        raise NotThere(f"there is no backup of a pool {of!r}", hint="see `xobackup metadata list`")
    if not shown:
        output.say("no backups of pools")
    _end(damaged)


def _pool_row(uuid: str, points: list[PoolPoint]) -> list[str]:
    size = size_text(sum(point.size for point in points))
    return [name_of(points[-1]), uuid, str(len(points)), points[0].id, points[-1].id, size]


def _point_row(point: PoolPoint) -> list[str]:
    return [point.id, name_of(point), point.job_name, point.master_name, point.version, size_text(point.size)]


def _show_configs(output: Output, remote: str, backups: PoolBackups) -> None:
    """Xen Orchestra's own: told about, never touched."""
    found = backups.configs()
    for one in found:
        fields = {"remote": remote, "id": one.id, "schedule_id": one.schedule_id, "job": one.job_name}
        output.record("xo-config-backup", {**fields, "size_bytes": one.size})
    if found:
        newest = max(one.id for one in found)
        told = count_text(len(found), "backup")
        output.say(f"{told} of Xen Orchestra's configuration on {remote}, the newest {newest}: left to Xen Orchestra")


def _end(damaged: int) -> None:
    if damaged:
        raise Outcome(
            Exit.DAMAGE, f"{count_text(damaged, 'finding')} of damage", hint="see `xobackup metadata clean`"
        )
