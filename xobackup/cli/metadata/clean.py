"""``xobackup metadata clean`` and ``delete``: what does not belong there, and what is not wanted any more."""

from __future__ import annotations

from typing import Annotated

import typer

from xobackup.cli.clean import show_findings
from xobackup.cli.metadata.points import OfOption, each, find_point, of_pool
from xobackup.cli.options import ConfigOption, JsonOption, RemoteOption
from xobackup.cli.output import Output

ApplyOption = Annotated[bool, typer.Option("--apply", help="Do what is proposed and certain.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without it only say what would be deleted.")]
PointsArgument = Annotated[
    list[str], typer.Argument(metavar="POINT...", help="Backups, as `metadata show` names them.")
]
FromOption = Annotated[str, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(delete)
    app.command()(clean)


def clean(
    remote: RemoteOption = None,
    apply: ApplyOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what is no backup of a pool, with reasons. With --apply, delete leftovers and quarantine the rest."""
    output = Output(as_json=as_json)
    found = proposed = 0
    for name, backups in each(config, remote):
        findings = backups.clean_plan()
        found += len(findings)
        proposed += sum(finding.certain and finding.action != "none" for finding in findings)
        if not apply:
            show_findings(output, name, "found", findings)
            continue
        report = backups.clean_apply(findings)
        show_findings(output, name, "done", report.done)
        show_findings(output, name, "left", report.left)
        show_findings(output, name, "noted", [one for one in findings if not one.certain or one.action == "none"])
    if not found:
        output.say("nothing to clean", style="green")
    elif not proposed:
        output.say("nothing is proposed: what is listed is left alone")
    elif not apply:
        output.say("nothing was touched; add --apply to do what is proposed")


def delete(
    points: PointsArgument,
    remote: FromOption,
    of: OfOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete backups of pools."""
    import secrets

    output = Output(as_json=as_json)
    for name, backups in each(config, remote):
        known = of_pool(backups.points().points, of)
        for point in [find_point(known, given) for given in points]:
            fields = {"remote": name, "pool": point.pool_uuid, "point": point.id}
            if yes:
                backups.delete(point, run=secrets.token_hex(8))
                output.record("deleted", fields)
                output.say(f"deleted {point.id} of pool {point.pool_name or point.pool_uuid}")
            else:
                output.record("would-delete", fields)
                output.say(f"would delete {point.id} of pool {point.pool_name or point.pool_uuid}")
    if not yes:
        output.say("nothing was deleted; add --yes to do it")
