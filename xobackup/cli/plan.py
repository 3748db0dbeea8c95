"""``xobackup plan``: what a run would do now, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from xobackup.cli import groups
from xobackup.cli.engine_store import handing_out
from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.hooks import plan_line
from xobackup.cli.options import JobOptions, job_command, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, short_uuids, size_text

if TYPE_CHECKING:
    from xobackup.engine.events import Failed
    from xobackup.engine.plan import RunPlan


TAKEN = {"disk": "disks only", "memory": "with memory", "offline": "shut down", "without": "shut down"}
"""In which way a VM is taken, where that needs a word."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    job_command(app, plan)


def plan(options: JobOptions) -> None:
    """Show per VM and disk: full or delta, from which base, to which remotes, and why. Touches nothing."""
    from xobackup.cli.limits import process_limits
    from xobackup.cli.live import watched_world, watching
    from xobackup.cli.mirror_jobs import show_plan as show_mirror
    from xobackup.engine.limits.told import links_told
    from xobackup.engine.mirror.job import plan_mirror
    from xobackup.engine.plan import as_data
    from xobackup.engine.run import plan_job
    from xobackup.engine.storage import remarks_on

    output = Output(as_json=options.as_json)
    configuration = read_configuration(options.config)
    failures: list[Failed] = []
    blocked: list[str] = []
    for job in options.chosen(configuration):
        with watching(output) as watch, handing_out(configuration) as hand_out:
            watch.face.defer_failures = True
            limits = process_limits(configuration)
            world = watched_world(watch, configuration.state_directory, limits=limits, hand_out=hand_out)
            made = plan_job(job, world)
        output.record("plan", as_data(made))
        if made.vms or made.pools or not made.problems:
            _show(output, made)
        for remote in job.remotes:
            for told in remarks_on(remote):
                output.record("remark", {"remote": remote.name, "message": told})
                output.say(f"remote {remote.name}: {told}")
        failures.extend(watch.face.failures)
    for mirror in options.mirrors(configuration):
        with watching(output) as watch, handing_out(configuration) as hand_out:
            limits = process_limits(configuration)
            world = watched_world(watch, configuration.state_directory, limits=limits, hand_out=hand_out)
            plans = list(plan_mirror(mirror, world))
            places = [mirror.source.name, *(target.name for target in mirror.targets)]
            lines = links_told(world.limits, places, world.clock.now_s())
            workers = () if hand_out is None else hand_out.told_mirror(mirror)
        show_mirror(output, mirror, plans, workers)
        output.record("mirror-limits", {"job": mirror.name, "limits": lines})
        for line in lines:
            output.say(line)
        blocked += [f"job {mirror.name}: {one.target}: {one.problem}" for one in plans if one.problem]
    if failures or blocked:
        hint = "\n".join(dict.fromkeys(failure.hint for failure in failures if failure.hint))
        told = "\n".join([*(failure.error for failure in failures), *blocked])
        raise Outcome(Exit.UNREACHABLE, told, hint=hint or None)


def _show(output: Output, made: RunPlan) -> None:
    from xobackup.engine.plan import as_data

    data = as_data(made)
    rows = [row for vm in data["vms"] for row in _vm_rows(vm)]
    columns = ["VM", "disk", "mode!", "to", "about>!", "because"]
    vms = count_text(len(made.vms), "VM")
    if made.pools:
        _show_pools(output, made)
    if rows:
        output.table(f"job {made.job}: {vms}, about {size_text(made.estimated_bytes)} to read", columns, rows)
    elif not made.pools:
        output.say(f"job {made.job}: no VM is selected")
    for line in [*_ways(data), *made.limits]:
        output.say(line)
    if data["group"] is not None:
        output.say(groups.plan_line(data["group"]))
    for hook in data["hooks"]:
        output.say(f"hook {plan_line(hook)}")
    for line in made.checks:
        output.say(line)
    for warning in made.warnings:
        output.say(f"warning: {warning}", style="yellow")
    for skipped in data["skipped"]:
        if skipped["matched"]:
            output.say(f"skipped {skipped['name'] or skipped['uuid']}: {skipped['reason']}")


def _ways(data: dict[str, Any]) -> list[str]:
    """By which ways disks will be read, and why not by better ones: each sentence once, with how often."""
    routes = [route for vm in data["vms"] if not vm["refusal"] for disk in vm["disks"] for route in disk["routes"]]
    ways = Counter(route["via"] for route in routes if route["via"])
    reasons = Counter(reason for route in routes for reason in route["not_via"])
    told = [f"{count_text(count, 'transfer')} by {via}" for via, count in ways.most_common()]
    return [*told, *(f"{reason} ({count_text(count, 'transfer')})" for reason, count in reasons.most_common())]


def _show_pools(output: Output, made: RunPlan) -> None:
    rows = [
        [
            pool.name,
            ", ".join(pool.remotes),
            "\n".join(f"{remote}: {point or 'none'}" for remote, point in pool.newest.items()),
            "\n".join(f"{remote}: {', '.join(points)}" for remote, points in pool.expires.items()),
            pool.reason,
        ]
        for pool in made.pools
    ]
    columns = ["pool", "to", "newest", "expires", "because"]
    output.table(f"job {made.job}: {count_text(len(rows), 'database')} of pools", columns, rows)


def _vm_rows(vm: dict[str, Any]) -> list[list[str]]:
    name = vm["name"] or vm["uuid"]
    if vm["refusal"]:
        return [[name, "", "refused", "", "", "\n".join(filter(None, (vm["refusal"], vm["hint"])))]]
    rows: list[list[str]] = []
    taking = vm["taking"]
    if taking["reason"]:
        about = size_text(taking["memory_bytes"]) if taking["memory_bytes"] else ""
        rows.append([name, "", TAKEN[taking["method"]], "", about, taking["reason"]])
    if vm["snapshot_retention"]:
        kept = f"the newest {vm['snapshot_retention']} stay on the pool"
        rows.append([name if not rows else "", "", "snapshot", "", "", kept])
    if vm["placement"]:
        rows.append(
            [name if not rows else "", "", "remote", vm["placement"]["remote"], "", vm["placement"]["reason"]]
        )
    archive = vm["archive"]
    if not vm["disks"] and not archive and vm["remotes"]:
        remotes = ", ".join(vm["remotes"])
        rows.append([name if not rows else "", "", "full", remotes, "", "it has no disks: its description is saved"])
    if archive:
        about = f"at most {size_text(archive['bound_bytes'])}"
        first = name if not rows else ""
        rows.append([first, "", "full", ", ".join(archive["remotes"]), about, archive["reason"]])
    for disk in vm["disks"]:
        if archive:
            rows.append(["", f"{disk['device']} {disk['name']}".strip(), "", "", "", ""])
        for route in disk["routes"]:
            first = name if not rows else ""
            label = f"{disk['device']} {disk['name']}".strip()
            cells = [", ".join(route["remotes"]), size_text(route["estimated_bytes"]), short_uuids(route["reason"])]
            rows.append([first, label, route["mode"], *cells])
    for skipped in vm["skipped_disks"]:
        rows.append([name if not rows else "", skipped["name"], "left out", "", "", skipped["reason"]])
    for note in vm["notes"]:
        rows.append([name if not rows else "", "", "note", "", "", note])
    for warning in (*vm["warnings"], *filter(None, [taking["warning"]])):
        rows.append([name if not rows else "", "", "warning", "", "", warning])
    return rows
