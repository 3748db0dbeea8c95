"""``xobackup plan``: what a run would do now, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output, size_text
from xobackup.cli.run import JobArguments

if TYPE_CHECKING:
    from xobackup.engine.plan import RunPlan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(jobs: JobArguments = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show per VM and disk: full or delta, from which base, to which remotes, and why. Touches nothing."""
    from xobackup.cli.jobs import job_names, job_of
    from xobackup.cli.live import world_of
    from xobackup.engine.plan import as_data
    from xobackup.engine.run import plan_job

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    problems: list[str] = []
    for name in job_names(configuration, jobs):
        with world_of(output, configuration.state_directory) as world:
            made = plan_job(job_of(configuration, name), world)
        output.record("plan", as_data(made))
        _show(output, made)
        problems.extend(made.problems)
    if problems:
        raise Outcome(Exit.UNREACHABLE, "\n".join(problems))


def _show(output: Output, made: RunPlan) -> None:
    rows: list[list[str]] = []
    from xobackup.engine.plan import as_data

    data = as_data(made)
    for vm in data["vms"]:
        rows.extend(_vm_rows(vm))
    columns = ["VM", "disk", "mode!", "to", "about>!", "because"]
    title = f"job {made.job}: {len(made.vms)} VMs, about {size_text(made.estimated_bytes)} to read"
    if rows:
        output.table(title, columns, rows)
    else:
        output.say(f"job {made.job}: no VM is selected")
    for skipped in data["skipped"]:
        if skipped["matched"]:
            output.say(f"skipped {skipped['name'] or skipped['uuid']}: {skipped['reason']}")


def _vm_rows(vm: dict[str, Any]) -> list[list[str]]:
    name = vm["name"] or vm["uuid"]
    if vm["refusal"]:
        return [[name, "", "refused", "", "", vm["refusal"]]]
    rows: list[list[str]] = []
    for disk in vm["disks"]:
        for route in disk["routes"]:
            first = name if not rows else ""
            label = f"{disk['device']} {disk['name']}".strip()
            cells = [", ".join(route["remotes"]), size_text(route["estimated_bytes"]), route["reason"]]
            rows.append([first, label, route["mode"], *cells])
    for skipped in vm["skipped_disks"]:
        rows.append([name if not rows else "", skipped["name"], "left out", "", "", skipped["reason"]])
    for warning in vm["warnings"]:
        rows.append([name if not rows else "", "", "warning", "", "", warning])
    return rows
