"""``xobackup migrate``: a VM to another pool while it runs, with one short stop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NoSuchVm, NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, duration_text, size_text

if TYPE_CHECKING:
    from xobackup.engine.move.request import Moved
    from xobackup.xapi.session import Session

VmArgument = Annotated[str, typer.Argument(metavar="VM", help="Its uuid, or its exact name in that pool.")]
FromOption = Annotated[str, typer.Option("--from", help="The pool that it is in.")]
ToOption = Annotated[str, typer.Option("--to", help="A target of the configuration: [targets.NAME].")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it. Without it, it is only said what would be done.")]
PrepareOption = Annotated[bool, typer.Option("--prepare", help="Only a round of replication, while it runs.")]
ShortOption = Annotated[
    float, typer.Option("--short", min=0, help="Seconds that the last round before the stop takes.")
]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, max=50, help="At most so many rounds before the stop.")]
WaitOption = Annotated[
    float, typer.Option("--shutdown-wait", min=1, help="Seconds that its guest gets to shut down.")
]
ToolsOption = Annotated[bool, typer.Option("--tools/--no-tools", help="Wait for the guest tools there.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1, help="Seconds from its start there to its answer.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    vm: VmArgument,
    source: FromOption,
    to: ToOption,
    prepare: PrepareOption = False,
    short: ShortOption = 60,
    rounds: RoundsOption = 6,
    shutdown_wait: WaitOption = 600,
    tools: ToolsOption = True,
    timeout: TimeoutOption = 300,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a VM to another pool: replicated while it runs, then one short stop. Does nothing without --yes."""
    from xobackup.cli.jobs import pool_address, sr_targets
    from xobackup.cli.shared_limits import limited_world
    from xobackup.engine.dr.spec import Readiness
    from xobackup.engine.job import PoolTarget
    from xobackup.engine.move.move import move, refuse, replicate
    from xobackup.engine.move.request import MoveRequest

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    if to not in configuration.targets:
        known = ", ".join(sorted(configuration.targets)) or "none"
        raise NotThere(
            f"there is no target {to!r} (known: {known})", hint="add [targets.NAME]; see docs/replication.md"
        )
    target = sr_targets(configuration, to, True)[0]
    pool = PoolTarget(name=source, address=pool_address(configuration, source))
    with limited_world(output, configuration) as world:
        with contextlib.closing(world.connect(pool.address)) as session:
            uuid = _uuid(session, vm, source)
            request = MoveRequest(
                name=f"migrate-{uuid}",
                vm_uuid=uuid,
                source=pool,
                target=target,
                short_s=short,
                rounds_max=rounds,
                shutdown_wait_s=shutdown_wait,
                ready=Readiness(tools=tools, timeout_s=timeout),
            )
            record = refuse(session, request)
        name = str(record["name_label"])
        output.say(f"{name} ({uuid}): from {source} to {to} ({target.pool.name}, SR {', '.join(target.srs)})")
        output.say(f"rounds until one takes {short:g} s, {rounds} at most, while it runs; then it is shut down")
        output.say("the last round follows, and it is started there; here it stays, halted and blocked")
        if not yes:
            output.say("nothing was done; --yes does it")
            return
        if prepare:
            done = replicate(world, request)
            output.record(
                "round", {"duration_s": done.duration_s, "read_bytes": done.read_bytes, "fulls": done.fulls}
            )
            output.say(f"replicated: {size_text(done.read_bytes)} in {duration_text(done.duration_s)}", style="green")
            return
        moved = move(world, request, tell=lambda text: output.note(f"  {text}"))
    show_moved(output, moved)


def show_moved(output: Output, moved: Moved) -> None:
    """What became of it. :class:`Outcome` when nobody knows whether it is well there."""
    output.record(
        "moved",
        {
            "vm": moved.vm_uuid,
            "new_vm": moved.new_uuid,
            "name": moved.name,
            "rounds": [
                {"duration_s": one.duration_s, "read_bytes": one.read_bytes, "fulls": one.fulls}
                for one in moved.rounds
            ],
            "downtime_s": moved.downtime_s,
            "reason": moved.reason,
            "warnings": list(moved.warnings),
        },
    )
    for warning in moved.warnings:
        output.note(f"warning: {warning}", style="yellow")
    off = f", off for {duration_text(moved.downtime_s)}" if moved.downtime_s else ""
    told = f"{moved.name} runs there as {moved.new_uuid}, after {count_text(len(moved.rounds), 'round')}{off}"
    output.say(told, style="green" if not moved.reason else "yellow")
    if moved.reason:
        hint = "look at its console; it stays running there, and the one it came from stays halted"
        raise Outcome(Exit.SOME_FAILED, f"{moved.name} runs there, but is not ready: {moved.reason}", hint=hint)


def _uuid(session: Session, vm: str, pool: str) -> str:
    """The one VM of that uuid or name."""
    found = [
        str(record["uuid"])
        for record in session.records("VM").values()
        if vm in (record.get("uuid"), record.get("name_label"))
        and not record.get("is_a_snapshot")
        and not record.get("is_a_template")
        and not record.get("is_control_domain")
    ]
    if not found:
        raise NoSuchVm(f"pool {pool} has no VM {vm!r}")
    if len(found) > 1:
        raise NoSuchVm(f"pool {pool} has several VMs called {vm!r}: {', '.join(found)}")
    return found[0]
