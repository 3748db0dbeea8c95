"""``xobackup dr``: plans for the day when a pool is lost, tried and carried out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import duration_text, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xobackup.engine.dr.bring_up import VmOutcome
    from xobackup.engine.dr.failback import Homeward
    from xobackup.engine.dr.failover import FailedOver
    from xobackup.engine.dr.plan import PlannedVm, Planning

app = typer.Typer(
    help="Disaster recovery: replicated VMs brought up at the other site by plan.", no_args_is_help=True
)
PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="A plan of the configuration: [dr.PLAN].")]
ReportOption = Annotated[Path | None, typer.Option("--report", help="Write a report: FILE.html or FILE.json.")]
PointOption = Annotated[
    str, typer.Option("--point", metavar="TIME", help="latest, or a moment (UTC): nothing later is used.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Really do it; otherwise it is only said what would be done.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Even while originals run, where they can be asked.")]
CountOption = Annotated[int, typer.Option("--last", min=1, help="So many tests, the newest first.")]


@app.command()
def plan(name: PlanArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what a failover would do now, and what is in its way. Changes nothing."""
    from xobackup.cli.dr_plans import opened
    from xobackup.cli.verbs.disaster import look

    output = Output(as_json=as_json)
    with opened(output, read_configuration(config), name) as site:
        planning, done = look(site)
    show_plan(output, planning, done)
    problems = planning.all_problems
    if problems:
        raise Outcome(
            Exit.SOME_FAILED if planning.some else Exit.FAILED,
            "a failover could not bring up everything now:\n" + "\n".join(problems),
        )
    output.say("a failover could bring up everything now", style="green")


@app.command()
def test(
    name: PlanArgument, report: ReportOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Bring up clones of the replicas in the isolated network, measure, and remove them."""
    from xobackup.cli.dr_plans import opened
    from xobackup.cli.verbs.disaster import complaints, rehearsed

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    _check_name(report)
    with opened(output, configuration, name) as site:
        trial = rehearsed(
            site,
            tell=lambda text: output.note(f"  {text}"),
            warn=lambda text: output.note(f"warning: {text}", style="yellow"),
        )
    data = trial.as_data()
    output.record("dr-test", data)
    show_outcomes(output, f"test of {name}", trial.vms)
    if report is not None:
        _write(report, data)
    if not trial.ok:
        some = any(one.ok for one in trial.vms)
        raise Outcome(Exit.SOME_FAILED if some else Exit.FAILED, "\n".join(complaints(trial)))
    output.say(f"all of them were ready after {duration_text(trial.rto_s)}, and were removed", style="green")


@app.command()
def failover(
    name: PlanArgument,
    point: PointOption = "latest",
    yes: YesOption = False,
    force: ForceOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring up the VMs of a plan at the other site. Run again, it goes on with what is missing."""
    from xobackup.cli.dr_plans import opened
    from xobackup.engine.dr.failover import fail_over, failed_over, refuse_two_of_one, running_of
    from xobackup.engine.leftovers.clean import recover

    output = Output(as_json=as_json)
    until_s = _moment(point)
    with opened(output, read_configuration(config), name) as site:
        done = failed_over(site.seen.records["VM"], name)
        planning = site.planning(until_s=until_s, running=running_of(done))
        show_plan(output, planning, done)
        for text in planning.all_problems:
            output.note(f"warning: {text}", style="yellow")
        for text in refuse_two_of_one(planning, force=force):
            output.note(f"warning: {text}, and --force was given", style="yellow")
        if not yes:
            output.say("nothing was changed: --yes does it")
            return
        recover(site.world, site.session, site.seen.site.pool_uuid)
        vms = fail_over(
            site.world, site.session, site.plan, planning, site.seen, tell=lambda text: output.note(f"  {text}")
        )
    for one in vms:
        output.record("dr-failover", one.as_data())
    show_outcomes(output, f"failover of {name}", vms)
    told = [f"group {one.group.name}: {text}" for one in planning.groups for text in one.problems]
    told += [f"{one.name}: {one.reason}" for one in vms if not one.ok]
    if told or not vms:
        code = Exit.SOME_FAILED if any(one.ok for one in vms) else Exit.FAILED
        raise Outcome(code, "\n".join(told), hint="mend it and run the same command again: what is up stays as it is")
    output.say(f"all of them were ready after {duration_text(max(one.ready_after_s for one in vms))}", style="green")


@app.command()
def failback(
    name: PlanArgument,
    final: Annotated[
        bool, typer.Option("--final", help="The stop and the start at home; without it a round while they run.")
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the VMs of a plan home: rounds of replication while they run, then one short stop of each."""
    from xobackup.cli.dr_plans import failing_back
    from xobackup.cli.migrate import show_moved
    from xobackup.engine.dr.failback import set_aside
    from xobackup.engine.errors import EngineError
    from xobackup.engine.move.move import move, replicate
    from xobackup.xapi.errors import XapiError

    output = Output(as_json=as_json)
    with failing_back(output, read_configuration(config), name) as (world, vms, homes):
        _show_homeward(output, name, vms)
        if not yes:
            output.say("nothing was changed: --yes replicates, --yes --final moves them")
            return
        failed = [f"{one.name}: {one.problem}" for one in vms if one.problem]
        for before, one in zip((None, *vms), vms, strict=False):
            if final and before is not None and before.group != one.group and before.group.delay_s:
                output.note(f"  group {before.group.name}: waiting {before.group.delay_s:g} s")
                world.cancel.sleep(world.clock, before.group.delay_s)
            if one.request is None:
                continue
            try:
                if not final:
                    done = replicate(world, one.request)
                    output.record("round", {"vm": one.original, "read_bytes": done.read_bytes, "fulls": done.fulls})
                    output.say(f"{one.name}: {size_text(done.read_bytes)} in {duration_text(done.duration_s)}")
                    continue
                set_aside(homes[one.home][1], one.original)  # before anything else can run at home
                moved = move(world, one.request, tell=partial(_tell, output, one.name))
                show_moved(output, moved)
            except (EngineError, XapiError, Outcome) as error:
                world.cancel.check()
                failed.append(f"{one.name}: {error}")
    if failed or not vms:
        told = failed or [f"no VM was failed over by plan {name!r}"]
        code = Exit.FAILED if len(failed) >= len(vms) else Exit.SOME_FAILED
        raise Outcome(code, "\n".join(told), hint="mend it and run the same command again: it goes on where it was")


def _tell(output: Output, name: str, text: str) -> None:
    output.note(f"  {name}: {text}")


def _show_homeward(output: Output, name: str, vms: Sequence[Homeward]) -> None:
    rows = []
    for one in vms:
        output.record(
            "failback-vm",
            {
                "name": one.name,
                "original": one.original,
                "vm": one.there,
                "state": one.state,
                "pool": one.home,
                "sr": one.sr,
                "first": one.first,
                "problem": one.problem,
            },
        )
        where = f"{one.home}, SR {one.sr}" if one.sr else one.home
        rows.append([one.name, f"{one.there[:8]}, {one.state.lower()}", where, one.first, one.problem])
    output.table(f"failback of {name}", ["VM", "there!", "home", "a first round transfers", "in the way"], rows)


@app.command()
def report(
    name: PlanArgument,
    last: CountOption = 10,
    report: ReportOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the last tests of a plan found. --report writes the newest."""
    from xobackup.cli.dr_plans import dr_plan
    from xobackup.engine.dr.remembered import last_trials

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    _check_name(report)
    dr_plan(configuration, name)
    found = last_trials(configuration.state_directory, name)[:last]
    if not found:
        raise NotThere(f"plan {name!r} was never tested from here", hint=f"xobackup dr test {name}")
    for data in found:
        output.record("dr-test", data)
    rows = [
        [
            str(data["started_at"]),
            "passed" if data["ok"] else "FAILED",
            f"{len(data['vms']) - data['failed']} of {len(data['vms'])}",
            duration_text(data["rto_s"]),
            duration_text(data["rpo_measured_s"]),
            "; ".join(
                [*data["problems"], *(f"{one['name']}: {one['reason']}" for one in data["vms"] if one["reason"])]
            ),
        ]
        for data in found
    ]
    output.table(f"tests of {name}", ["begun!", "result!", "VMs ready!", "RTO>!", "oldest point>!", "problems"], rows)
    if report is not None:
        _write(report, found[0])


def show_plan(output: Output, planning: Planning, done: Mapping[str, FailedOver]) -> None:
    """What would be done, by group. ``done``: what was failed over already, by uuid of the VM it is of."""
    from xobackup.cli.verbs.disaster import planning_data, vm_data

    rows: list[list[str]] = []
    for group in planning.groups:
        for vm in group.vms:
            before = done.get(vm.vm_uuid)
            output.record("dr-plan-vm", vm_data(group.group.name, vm, done))
            there = f"{before.power_state}, from {before.point}" if before else ""
            rows.append([group.group.name, vm.name, *_cells(vm), there])
    output.record("dr-plan", planning_data(planning))
    columns = ["group", "VM", "restore point!", "age>!", "networks", "original", "remarks", "failed over"]
    output.table(f"plan {planning.name}", columns, rows)
    output.say(
        f"memory: {planning.memory_needed_bytes >> 20} MiB needed, {planning.memory_free_bytes >> 20} MiB free"
    )
    for text in planning.warnings:
        output.note(f"warning: {text}", style="yellow")


def show_outcomes(output: Output, title: str, vms: Sequence[VmOutcome]) -> None:
    """What became of every VM."""
    rows = [
        [
            one.group,
            one.name,
            one.point,
            "ready" if one.ok else f"FAILED: {one.reason}",
            duration_text(one.ready_after_s) if one.ok else "",
            "; ".join(
                [*one.warnings, *([] if one.removed else ["its VM is still there; the next start removes it"])]
            ),
        ]
        for one in vms
    ]
    output.table(title, ["group", "VM", "restore point!", "result", "ready after>!", "remarks"], rows)


def _cells(vm: PlannedVm) -> list[str]:
    where = f" in {vm.original_pool}" if vm.original_pool else ""
    return [
        vm.point.id if vm.point else "none",
        duration_text(vm.age_s) if vm.point else "",
        ", ".join(vm.networks),
        f"{vm.original}{where}",
        "; ".join((*vm.problems, *vm.warnings)),
    ]


def _moment(text: str) -> float | None:
    """Unix time; ``None`` for the latest."""
    from datetime import UTC, datetime

    if text == "latest":
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        told = "latest or a time such as 2026-11-26T03:00 or 20261126T030000Z"
        raise NotThere(f"--point: expected {told}, found {text!r}") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _check_name(path: Path | None) -> None:
    if path is not None and path.suffix not in (".html", ".json"):
        raise NotThere(f"--report: expected a name that ends with .html or .json, found {str(path)!r}")


def _write(path: Path, data: Mapping[str, Any]) -> None:
    from xobackup.cli.new_files import write_new
    from xobackup.engine.dr.report import as_html, as_json

    write_new(path, (as_html if path.suffix == ".html" else as_json)(data), force=True)
