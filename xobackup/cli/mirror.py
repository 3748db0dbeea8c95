"""``xobackup mirror``: restore points from one remote to another, or to a disk that travels; no pool takes part."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli import repositories
from xobackup.cli.errors import NoSuchVm, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from xobackup.cli.live import Watch
    from xobackup.engine.mirror.choose import Choice
    from xobackup.engine.mirror.copy import VmMirrored, Wish
    from xobackup.engine.throttle import Throttle
    from xobackup.repository.repository import Repository

MS_PER_DAY = 86_400_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mirror)


def mirror(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="A remote of the configuration, or a URL. Only read.")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="A remote of the configuration, or a URL.")],
    vm: Annotated[list[str] | None, typer.Option("--vm", help="Only this VM: uuid or name; may be repeated.")] = None,
    job: Annotated[list[str] | None, typer.Option("--job-id", help="Only of this job; may be repeated.")] = None,
    schedule: Annotated[
        list[str] | None, typer.Option("--schedule-id", help="Only of this schedule; may be repeated.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only of VMs that had this tag; may be repeated.")
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0, help="Only what is not older than so many days.")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=1, help="Keep so many there of each schedule; without it nothing is deleted."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read what was copied from the target again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be copied.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the restore points that another remote lacks, checked by digest; deltas stay deltas."""
    from schedules.retention import Rule
    from xobackup.cli.examined import examining
    from xobackup.cli.live import watching
    from xobackup.clock import SystemClock
    from xobackup.engine.mirror.choose import Filter
    from xobackup.engine.mirror.copy import Wish, refuse_same

    output = Output(as_json=as_json)
    since_ms = 0 if days is None else round(SystemClock().now_s() * 1000 - days * MS_PER_DAY)
    wish = Wish(
        filter=Filter(jobs=job or (), schedules=schedule or (), tags=tag or (), since_ms=since_ms),
        rule=None if keep is None else Rule(newest=keep),
        verify=verify,
    )
    with watching(output) as watch, contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(opened_remote(config, name)) for name in (source, target))
        refuse_same(one, other)
        throttle = _throttle(config, source, target, output, watch, stack)
        notes = stack.enter_context(examining(config, "mirror"))

        def noted(done: VmMirrored) -> None:
            for identity, error in list(done.damaged.items())[:1]:
                notes.note(done.vm, done.name, source, damage=f"restore point {identity} cannot be copied: {error}")

        vms = chosen_vms(one, vm)
        mirror_vms(watch, output, (one, other), vms, wish, dry_run=dry_run, throttle=throttle, note=noted)


def chosen_vms(source: Repository, given: Sequence[str] | None) -> list[str]:
    """Uuids of the VMs ``given`` by uuid or name, all of ``source`` when none is."""
    vms = list(dict.fromkeys(repositories.find_vm(source, name) for name in given)) if given else source.vms()
    if not vms:
        raise NoSuchVm(f"{source.remote.url}: there are no backups of VMs there")
    return list(vms)


def opened_remote(config: Path | None, name: str) -> contextlib.AbstractContextManager[Repository]:
    """The remote of the configuration, or the URL or path ``name``."""
    (target,) = repositories.remote_targets(config, name)
    return repositories.opened(target)


def _throttle(
    config: Path | None, source: str, target: str, output: Output, watch: Watch, stack: contextlib.ExitStack
) -> Throttle | None:
    """That of what is copied from one to the other, where the configuration knows one of these names."""
    from xobackup.cli.shared_limits import shared_limits
    from xobackup.config.errors import ConfigError

    try:
        configuration = read_configuration(config)
    except ConfigError:
        return None  # a URL needs no configuration
    if not {source, target} & set(configuration.remotes):
        return None
    limits = stack.enter_context(shared_limits(configuration, output.note))
    return limits.copying(source, target, watch.clock)


def mirror_vms(
    watch: Watch,
    output: Output,
    both: tuple[Repository, Repository],
    vms: Sequence[str],
    wish: Wish,
    *,
    dry_run: bool = False,
    throttle: Throttle | None = None,
    note: Callable[[VmMirrored], None] = lambda _: None,
) -> None:
    """Mirror ``vms`` from the first repository to the second; :class:`Outcome` when a restore point failed."""
    from remotes.errors import RemoteError
    from xobackup.engine.mirror.copy import VmMirror, plan_vm
    from xobackup.repository.errors import RepositoryError

    copied = failed = size = 0
    for uuid in vms:
        if dry_run:
            choices = plan_vm(*both, uuid, wish, clock=watch.clock)
            copied += sum(not choice.reason for choice in choices)
            _show_plan(output, uuid, choices)
            continue
        meter = watch.progress.meter(repositories.vm_name(both[0], uuid) or uuid, stage="mirror")
        try:
            one = VmMirror(*both, uuid, wish, clock=watch.clock, cancel=watch.cancel, throttle=throttle)
            done = one.run(meter)
        except (RemoteError, RepositoryError) as error:
            watch.cancel.check()
            failed += 1
            output.record("failure", {"vm": uuid, "point": "", "error": str(error)})
            output.say(f"{uuid}: {error}", style="red")
            continue
        finally:
            watch.progress.drop(meter)
        note(done)
        copied, failed = copied + len(done.copied), failed + len(done.failed)
        size += sum(one.size_bytes for one in done.copied.values())
        _show(output, done)
    if dry_run:
        output.say(f"{count_text(copied, 'restore point')} would be copied")
        return
    output.record("mirrored", {"points": copied, "failed": failed, "size_bytes": size})
    output.say(f"{count_text(copied, 'restore point')} copied, {size_text(size)}")
    if failed:
        exit_code = Exit.SOME_FAILED if copied else Exit.FAILED
        raise Outcome(exit_code, f"{failed} could not be copied", hint="run it again: what was copied is kept")


def _show_plan(output: Output, vm: str, choices: Sequence[Choice]) -> None:
    for choice in choices:
        what = {"vm": vm, "point": choice.point.id, "copy": not choice.reason, "reason": choice.reason}
        output.record("choice", what)
        told = f"left out: {choice.reason}" if choice.reason else "would be copied"
        output.say(f"{choice.point.vm_name or vm} {choice.point.id} ({choice.point.mode}): {told}")


def _show(output: Output, done: VmMirrored) -> None:
    for identity, one in done.copied.items():
        facts = {"size_bytes": one.size_bytes, "blocks": one.blocks, "unchecked": one.unchecked, "fulls": one.fulls}
        output.record("copied", {"vm": done.vm, "point": identity, **facts})
        unchecked = f"; {one.unchecked} without a digest at the source" if one.unchecked else ""
        output.say(f"{done.name} {identity}: copied, {size_text(one.size_bytes)}{unchecked}")
        for reason in one.fulls:
            output.say(f"{done.name} {identity}: full, {reason}", style="yellow")
    for choice in done.left:
        output.record("left", {"vm": done.vm, "point": choice.point.id, "reason": choice.reason})
    for reason in dict.fromkeys(choice.reason for choice in done.left):
        count = sum(choice.reason == reason for choice in done.left)
        output.say(f"{done.name}: {count_text(count, 'restore point')} left out: {reason}")
    for identity, error in done.failed.items():
        output.record("failure", {"vm": done.vm, "point": identity, "error": error})
        output.say(f"{done.name} {identity}: {error}", style="red")
    for identity in done.deleted:
        output.record("deleted", {"vm": done.vm, "point": identity})
        output.say(f"{done.name} {identity}: deleted at the target, by its retention")
    for note in done.notes:
        output.record("note", {"vm": done.vm, "text": note})
        output.say(f"{done.name}: {note}", style="yellow")
