"""``xobackup metadata restore``: a pool's database put back. A trial, unless everything says otherwise."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.metadata.points import OfOption, PointArgument, each, find_point, name_of, of_pool
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from xobackup.engine.pools.restore import PoolRestored, PoolRestorePlan

FromOption = Annotated[str, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.")]
PoolOption = Annotated[str, typer.Option("--pool", "-p", help="The pool of the configuration to restore to.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only let the pool try it: what happens without --yes, too.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Really: the pool's master restarts into the dump.")]
ConfirmOption = Annotated[
    str | None,
    typer.Option("--pool-uuid", help="The uuid of the pool that is replaced; on a terminal it is asked for."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Although pool, hosts or version are not those of the dump.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(restore)


def restore(
    remote: FromOption,
    pool: PoolOption,
    point: PointArgument = "latest",
    of: OfOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    pool_uuid: ConfirmOption = None,
    force: ForceOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a backup of a pool's database on a pool; with --yes and the pool's uuid, replace its database by it."""
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.live import world_of
    from xobackup.engine.pools.describe import pool_records
    from xobackup.engine.pools.restore import plan_pool_restore, restore_pool, try_pool_restore

    if dry_run and yes:
        raise NotThere("--dry-run and --yes contradict each other")
    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    address = pool_address(configuration, pool)
    with world_of(output, configuration.state_directory) as world, contextlib.ExitStack() as held:
        session = held.enter_context(contextlib.closing(world.connect(address)))
        for _, backups in each(config, remote):
            known = of_pool(backups.points().points, of or pool_records(session).uuid)
            if not known:
                told = of or f"{pool} ({pool_records(session).uuid})"
                raise NotThere(f"{remote}: there is no backup of pool {told}", hint="name another pool with --of")
            plan = plan_pool_restore(world, session, backups, find_point(known, point), force=force)
            _show_plan(output, plan, pool)
            if not yes:
                try_pool_restore(world, session, backups, plan)
                _end_trial(output, plan)
                return
            _confirm(plan, pool_uuid, as_json=as_json)
            restored = restore_pool(world, session, backups, plan, connect=lambda: world.connect(address))
    _end(output, plan, restored)


def _show_plan(output: Output, plan: PoolRestorePlan, pool: str) -> None:
    output.record("pool-restore-plan", {"into": pool, **plan.as_data()})
    dump = plan.summary
    counts = [
        count_text(len(names), noun) for names, noun in ((dump.hosts, "host"), (dump.srs, "SR"), (dump.vms, "VM"))
    ]
    what = f"{name_of(plan.point)} of {plan.point.id}: {', '.join(counts)}, {size_text(dump.size_bytes)}"
    output.say(f"{what} -> pool {plan.pool_name} ({plan.pool_uuid})")
    for refusal in plan.refusals:
        output.note(f"refused: {refusal}", style="red")
    for warning in plan.warnings:
        output.note(f"warning: {warning}", style="yellow")


def _end_trial(output: Output, plan: PoolRestorePlan) -> None:
    output.record("pool-tried", {"pool": plan.pool_uuid, "point": plan.point.id, "refusals": list(plan.refusals)})
    output.say("the pool would take it; nothing was changed: this was a dry run", style="green")
    if plan.refusals:
        told = "; ".join(plan.refusals)
        raise Outcome(
            Exit.FAILED, f"a real restore would be refused: {told}", hint="--force, if that is what is meant"
        )


def _confirm(plan: PoolRestorePlan, given: str | None, *, as_json: bool) -> None:
    """The uuid of the pool that loses its database, given or typed."""
    if given is None:
        if as_json or not sys.stdin.isatty():
            hint = f"add --pool-uuid {plan.pool_uuid}, if this is the pool whose database is to be replaced"
            raise NotThere("a real restore needs the uuid of the pool that is replaced", hint=hint)
        given = typer.prompt(f"Type the uuid of pool {plan.pool_name} to replace its database", err=True)
    if given.strip().lower() != plan.pool_uuid:
        raise NotThere(f"expected the uuid of pool {plan.pool_name}, {plan.pool_uuid}, found {given!r}")


def _end(output: Output, plan: PoolRestorePlan, restored: PoolRestored) -> None:
    output.record("pool-restored", restored.as_data())
    if restored.problems:
        raise Outcome(
            Exit.FAILED,
            f"pool {plan.pool_name}: {'; '.join(restored.problems)}",
            hint="look at the master's console and /var/log/xensource.log",
        )
    output.say(f"pool {plan.pool_name} runs on the database of {plan.point.id}", style="green")
