"""``xobackup backups history`` and ``undelete``: what a bucket with versions still has of what was deleted."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import LOCK_WAIT_S, ConfigOption, JsonOption, VmOption
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remotes.contract import Remote
    from remotes.faces import Once
    from xobackup.repository.undeleting import Undelete

RemoteArgument = Annotated[str, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.")]
_POINTS = r"\d{8}T\d{6}Z\.json"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(history)
    app.command()(undelete)


def history(
    remote: RemoteArgument,
    vm: VmOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is there as it was written.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore points that were deleted or replaced in a bucket with versions: when, and how long they are locked."""
    from remotes import faces
    from xobackup.cli import repositories
    from xobackup.engine.storage import open_plain_remote
    from xobackup.repository.layout import VM_BACKUPS, is_uuid, vm_directory

    output = Output(as_json=as_json)
    (target,) = repositories.remote_targets(config, remote)
    opened = open_plain_remote(target)
    try:
        past = faces.rewinding(opened)
        found = [name for name in past.ever(VM_BACKUPS) if is_uuid(name)]
        rows: list[list[str]] = []
        matched = False
        for uuid in found if vm not in found else [vm]:
            versions = past.versions(vm_directory(uuid), _POINTS)
            name = _name(opened, uuid, versions)
            if vm not in (None, uuid, name):
                continue
            matched = True
            for once in versions if everything else [each for each in versions if each.gone_s is not None]:
                point = once.name.removesuffix(".json")
                told = {**asdict(once), "vm": uuid, "name": name, "point": point}
                output.record("version", told)
                rows.append([name or uuid, point, *_once(once)])
    finally:
        opened.close()
    if vm is not None and not matched:
        raise NotThere(f"{target.name}: there is no VM {vm!r}, and none is known to have been there")
    if rows:
        output.table(f"on {target.name}, times in UTC", ["VM", "restore point!", "written!", "now", "locked!"], rows)
        output.say("to see it as it was: `xobackup backups list --as-of TIME`, with a time before it was deleted")
    else:
        output.say("no restore point was deleted or replaced, as far as the bucket has old versions", style="green")


def _name(opened: Remote, uuid: str, versions: Sequence[Once]) -> str:
    """What the VM is called there, or was when its last restore point went; ``""`` when nothing says."""
    from remotes import faces
    from remotes.errors import RemoteError
    from xobackup.repository.listing import list_points

    gone_s = max((once.gone_s for once in versions if once.gone_s is not None), default=None)
    for remote in (opened, *([] if gone_s is None else [faces.as_of(opened, gone_s - 1)])):
        try:
            points = list_points(remote, uuid, use_cache=False).points
        except RemoteError:
            continue
        if points:
            return points[-1].vm_name
    return ""


def _once(once: Once) -> list[str]:
    how = "replaced" if once.replaced else "deleted"
    became = "there" if once.gone_s is None else f"{how} {_moment(once.gone_s)}"
    locked = f"until {_moment(once.locked_until_s)}" if once.locked_until_s is not None else "no"
    return [_moment(once.written_s), became, locked]


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def undelete(
    vm: Annotated[str, typer.Argument(metavar="VM", help="A VM: its uuid, or its name at that time.")],
    remote: RemoteArgument,
    as_of: Annotated[str, typer.Option("--as-of", metavar="TIME", help="When it was there: 2026-11-26T03:00 (UTC).")],
    points: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POINT]...", help="Restore points; all that are missing when none is named."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without it only say what would be brought back.")
    ] = False,
) -> None:
    """Bring back restore points that were deleted in a bucket with versions. Replaces and deletes nothing."""
    from xobackup.cli import repositories
    from xobackup.cli.live import watching
    from xobackup.clock import SystemClock
    from xobackup.engine.undelete import opened_then
    from xobackup.engine.undelete import undelete as bring_back
    from xobackup.repository.undeleting import plan_undelete

    output = Output(as_json=as_json)
    (target,) = repositories.remote_targets(config, remote)
    time_s = repositories.moment_s(as_of)
    with watching(output) as watch, opened_then(target, time_s, clock=SystemClock()) as then:
        uuid = repositories.find_vm(then.repository, vm)
        ids = [repositories.find_point(then.repository, uuid, point).id for point in points] if points else None
        plans = plan_undelete(then.repository, then.past, uuid, ids)
        if not plans:
            output.say(f"nothing of {vm} is missing that was there at {as_of}", style="green")
            return
        _tell(output, uuid, plans)
        able = [plan for plan in plans if not plan.problem]
        if not yes:
            output.say("nothing was brought back; add --yes to do it")
            return
        if not able:
            raise NotThere(f"none of these restore points can be brought back as it was at {as_of}")
        meter = watch.progress.meter(vm, stage="undelete")
        meter.begin("undelete", total_bytes=sum(plan.size_bytes for plan in able))
        try:
            with repositories.opened(target) as present:
                back = bring_back(
                    then,
                    present,
                    uuid,
                    [plan.point.id for plan in able],
                    lock_wait_s=LOCK_WAIT_S,
                    check=watch.cancel.check,
                    done=meter.add,
                )
        finally:
            watch.progress.drop(meter)
    for point in back:
        output.record("undeleted", {"vm": uuid, "point": point})
    output.say(f"{count_text(len(back), 'restore point')} of {vm} brought back", style="green")
    if len(able) < len(plans):
        left = len(plans) - len(able)
        raise Outcome(Exit.SOME_FAILED, f"{count_text(left, 'restore point')} could not be brought back, see above")


def _tell(output: Output, vm: str, plans: list[Undelete]) -> None:
    for plan in plans:
        files = len(plan.hidden)
        fields = {"vm": vm, "point": plan.point.id, "files": files, "size_bytes": plan.size_bytes}
        output.record("undelete", {**fields, "problem": plan.problem})
        if plan.problem:
            output.say(f"{plan.point.id} cannot be brought back: {plan.problem}", style="yellow")
        elif not files:
            output.say(f"{plan.point.id} is there as it was")
        else:
            output.say(f"{plan.point.id}: {count_text(files, 'file')}, {size_text(plan.size_bytes)}")
