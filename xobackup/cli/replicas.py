"""``xobackup replicas``: which replicas there are, their restore points, and how far they lag behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import duration_text, short_uuids

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.job import SrTarget
    from xobackup.engine.replication.listing import ListedReplica

TargetOption = Annotated[list[str] | None, typer.Option("--target", "-t", help="Only this target; may be repeated.")]
PointsOption = Annotated[bool, typer.Option("--points", help="Every restore point, not only the newest.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replicas)


def replicas(
    target: TargetOption = None,
    points: PointsOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List replicas with their restore points, and the time since the newest. Asks the targets' pools only."""
    from xobackup.cli.verbs.replicas import job_names, replicas_at
    from xobackup.clock import SystemClock
    from xobackup.engine.errors import EngineError
    from xobackup.xapi.errors import XapiError

    output, clock = Output(as_json=as_json), SystemClock()
    configuration = read_configuration(config)
    names = job_names(configuration)
    problems: list[str] = []
    for one in _targets(configuration, target):
        try:
            found = replicas_at(one, clock)
        except (XapiError, EngineError) as error:
            problems.append(f"target {one.name}: {error}")
            continue
        for replica in found:
            output.record("replica", {**replica.as_data(), "job": names.get(replica.job_id)})
        _show(output, one.name, found, names, points=points)
    if problems:
        raise Outcome(Exit.UNREACHABLE, "\n".join(problems))


def _targets(configuration: Configuration, given: list[str] | None) -> list[SrTarget]:
    from xobackup.cli.jobs import sr_targets
    from xobackup.config.errors import ConfigError

    known = ", ".join(sorted(configuration.targets)) or "none"
    unknown = [name for name in given or [] if name not in configuration.targets]
    if unknown:
        raise ConfigError([f"there is no target {name!r} (known: {known})" for name in unknown])
    if not configuration.targets:
        raise ConfigError(["the configuration defines no target"], hint="add [targets.NAME]; see docs/replication.md")
    return [one for name in given or configuration.targets for one in sr_targets(configuration, name, True)]


def _show(output: Output, target: str, found: list[ListedReplica], names: dict[str, str], *, points: bool) -> None:
    if not found:
        output.say(f"no replicas at {target}")
        return
    rows: list[list[str]] = []
    for one in found:
        job = names.get(one.job_id) or short_uuids(one.job_id)
        newest = one.points[0]
        state = one.state if newest.usable else "data are missing"
        rows.append(
            [
                one.name,
                job,
                one.sr,
                str(len(one.points)),
                newest.id,
                duration_text(one.lag_s),
                duration_text(one.gap_s),
                state,
            ]
        )
        if points:
            rows += [
                ["", "", "", "", point.id, "", "", "by Xen Orchestra" if point.by_xo else ""]
                for point in one.points[1:]
            ]
    columns = ["replica", "job", "SR", "points>!", "newest!", "lag>!", "longest gap>!", "state"]
    output.table(f"at {target}", columns, rows)
