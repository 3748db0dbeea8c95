"""``xobackup immutability``: set and lift the immutable flag on the machine that has the disks of a remote."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption
from xobackup.cli.output import Output
from xobackup.texts import count_text

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.engine.job import RemoteTarget
    from xobackup.repository.freezing import FreezeReport
    from xobackup.repository.lock_rule import LockRule

app = typer.Typer(no_args_is_help=True, help="Immutable files: backups that nobody can delete over the network.")
EVERY_S_MIN = 10


@app.callback()
def _group() -> None:
    """A group, also while it has one command."""


@app.command()
def apply(
    remote: Annotated[str, typer.Argument(metavar="REMOTE", help="A remote of the configuration, or a directory.")],
    days: Annotated[
        float | None,
        typer.Option("--days", min=0.01, help="How long restore points are protected.", show_default="lock.days"),
    ] = None,
    chain_days: Annotated[
        float | None,
        typer.Option("--chain-days", min=1, help="How old a chain may get.", show_default="lock.chain_days, or 7"),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option("--every", min=EVERY_S_MIN, help="Do it again after so many seconds, until stopped."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make new restore points immutable (chattr +i), and lift that where it is over. Needs root on the storage."""
    from remotes.errors import NotSupported
    from remotes.faces import Freezing
    from remotes.url import open_remote
    from xobackup.cli.live import watching
    from xobackup.clock import SystemClock
    from xobackup.repository.freezing import apply_freezing

    output = Output(as_json=as_json)
    target, rule = _target(config, remote, days, chain_days)
    clock = SystemClock()
    with watching(output) as watch:
        while True:
            opened = open_remote(target.url)
            try:
                if not isinstance(opened, Freezing):
                    raise NotSupported(opened.url, "", "flags can only be set on a file system of this machine")
                report = apply_freezing(opened, rule, clock=clock, check=watch.cancel.check, dry=dry_run)
            finally:
                opened.close()
            _tell(output, report, "would be " if dry_run else "")
            if every is None or dry_run:
                break
            watch.cancel.sleep(clock, every)
    if report.failed:
        raise Outcome(Exit.SOME_FAILED, f"{count_text(len(report.failed), 'failure')}, see above")


def _target(
    config: Path | None, remote: str, days: float | None, chain_days: float | None
) -> tuple[RemoteTarget, LockRule]:
    from xobackup.cli import repositories
    from xobackup.repository.lock_rule import IMMUTABLE, LockRule

    (target,) = repositories.remote_targets(config, remote)
    given = target.storage.lock
    if given is not None and given.mode != IMMUTABLE:
        raise Outcome(Exit.USAGE, f"{target.name}: its store locks objects by itself ({given.mode}); nothing to set")
    length = days if days is not None else given.days if given is not None else None
    if length is None:
        hint = 'for example lock = { mode = "immutable", days = 30 }, or --days 30'
        raise Outcome(Exit.USAGE, f"{target.name}: expected lock in its configuration, or --days", hint=hint)
    chain = chain_days if chain_days is not None else given.chain_days if given is not None else 7.0
    return target, LockRule(mode=IMMUTABLE, days=length, chain_days=chain)


def _tell(output: Output, report: FreezeReport, prefix: str) -> None:
    output.record("immutability", {**asdict(report), "done": not prefix})
    for name in report.frozen:
        output.say(f"{prefix}frozen {name}")
    for name in report.lifted:
        output.say(f"{prefix}lifted {name}")
    for told in report.failed:
        output.note(f"failed: {told}", style="red")
    for told in report.left:
        output.note(f"left alone: {told}", style="yellow")
    frozen, lifted = count_text(len(report.frozen), "name"), count_text(len(report.lifted), "name")
    output.say(f"{frozen} {prefix}frozen, {lifted} {prefix}lifted", style="green")
