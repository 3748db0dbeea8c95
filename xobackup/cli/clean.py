"""``xobackup clean``: what does not belong into a repository, or on a pool; done only when asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere
from xobackup.cli.options import LOCK_WAIT_S, ConfigOption, JsonOption, RemoteOption, VmOption
from xobackup.cli.output import Output
from xobackup.cli.pool_leftovers import clean_pool

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.repository.findings import CleanFinding


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(clean)


def clean(
    remote: RemoteOption = None,
    vm: VmOption = None,
    pool: Annotated[
        str | None, typer.Option("--pool", "-p", help="Look at this pool instead: what dead runs left there.")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", help="With --pool: this run is over, you know it. May be repeated."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do what is proposed and certain.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what does not belong there, with reasons. With --apply, delete leftovers and quarantine the rest."""
    from xobackup.cli import repositories

    output = Output(as_json=as_json)
    if pool is not None:
        if remote or vm:
            raise NotThere("--pool looks at a pool, --remote and --vm at repositories: give one of them")
        clean_pool(output, config, pool, over=run or [], apply=apply)
        return
    if run:
        raise NotThere("--run goes with --pool")
    found = proposed = 0
    for name, repository, vms in repositories.each(config, remote, vm):
        for uuid in vms:
            findings = repository.clean_plan(uuid)
            found += len(findings)
            proposed += sum(finding.certain and finding.action != "none" for finding in findings)
            if not apply or not findings:
                show_findings(output, name, "found", findings)
                continue
            with repository.lock(uuid, timeout_s=LOCK_WAIT_S, purpose="clean") as directory:
                report = directory.clean_apply(findings)
            show_findings(output, name, "done", report.done)
            show_findings(output, name, "left", report.left)
            show_findings(output, name, "noted", [one for one in findings if one.action == "none"])
            if report.quarantine:
                _note(config, name, uuid, repositories.vm_name(repository, uuid), report.done)
                output.say(f"moved to {report.quarantine}: move it back, or delete it when it is not needed")
    if not found:
        output.say("nothing to clean", style="green")
    elif not proposed:
        output.say("nothing is proposed: what is listed is left alone")
    elif not apply:
        output.say("nothing was touched; add --apply to do what is proposed")


def _note(config: Path | None, remote: str, vm: str, vm_name: str, done: list[CleanFinding]) -> None:
    """What was put into quarantine because it is damaged, for the history."""
    from xobackup.cli.examined import examining

    bad = [one.problem for one in done if one.action == "quarantine" and one.problem.severity == "damage"]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        with examining(config, "clean") as notes:
            notes.note(vm, vm_name, remote, damage=f"quarantined: {bad[0].path}: {bad[0].message}{more}")


_WORDS = {
    "delete": ("would delete", "deleted"),
    "quarantine": ("would quarantine", "quarantined"),
    "rebuild": ("would rebuild", "rebuilt"),
}


def _told(finding: CleanFinding, state: str) -> str:
    words = _WORDS.get(finding.action) if finding.certain and state in ("found", "done") else None
    what = words[state == "done"] if words else "left alone"
    problem = finding.problem
    reason = "" if finding.reason == problem.message else f"; {finding.reason}"
    return f"{what} {problem.path}: {problem.message}{reason}"


def show_findings(output: Output, remote: str, state: str, findings: list[CleanFinding]) -> None:
    """Each finding with what becomes of it: ``state`` is ``found``, ``done``, ``left`` or ``noted``."""
    for finding in findings:
        problem = finding.problem
        output.record(
            "finding",
            {
                "remote": remote,
                "state": state,
                "code": problem.code,
                "severity": problem.severity,
                "path": problem.path,
                "action": finding.action,
                "certain": finding.certain,
                "message": problem.message,
                "reason": finding.reason,
            },
        )
        output.say(_told(finding, state), style="red" if problem.severity == "damage" else None)
