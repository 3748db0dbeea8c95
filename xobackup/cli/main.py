"""``xobackup``: assembles the commands and turns every error into a sentence and an exit code."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated

import typer
from typer.main import get_command

from xobackup.cli import (
    backups,
    clean,
    config,
    doctor,
    dr,
    health_check,
    history,
    immutability,
    import_from_xo,
    manual,
    merge,
    metadata,
    migrate,
    mirror,
    notify,
    own,
    plan,
    remote,
    repair,
    replicas,
    restore,
    retention,
    schedules,
    seed,
    serve,
    simpool,
    status,
    verify,
    web,
    worker,
    workers,
)
from xobackup.cli import run as run_command
from xobackup.cli.demo import command as demo
from xobackup.cli.exits import Exit
from xobackup.cli.options import wants_json
from xobackup.cli.output import Output
from xobackup.cli.support import command as support

app = typer.Typer(
    name="xobackup",
    help="Backup, restore and disaster recovery for XAPI pools (XCP-ng, XenServer).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (
    demo,
    simpool,
    doctor,
    plan,
    run_command,
    verify,
    repair,
    health_check,
    merge,
    mirror,
    migrate,
    clean,
    replicas,
    status,
    serve,
    worker,
    workers,
    import_from_xo,
    manual,
    support,
):
    module.register(app)
for name, group in (
    ("backups", backups.app),
    ("config", config.app),
    ("dr", dr.app),
    ("history", history.app),
    ("immutability", immutability.app),
    ("metadata", metadata.app),
    ("notify", notify.app),
    ("remote", remote.app),
    ("restore", restore.app),
    ("retention", retention.app),
    ("schedules", schedules.app),
    ("seed", seed.app),
    ("self", own.app),
    ("web", web.app),
):
    app.add_typer(group, name=name)


def _version(value: bool) -> None:
    if value:
        from importlib import metadata

        try:
            typer.echo(f"xobackup {metadata.version('xobackup')}")
        except metadata.PackageNotFoundError:
            typer.echo("xobackup, run from a source tree that is not installed")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = (False),
) -> None:
    pass


class Terminated(BaseException):
    """SIGTERM arrived: unwinds like an interrupt, so that everything is cleaned up."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def run() -> None:
    """The entry point of the ``xobackup`` program."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())


@functools.cache
def program() -> Callable[..., object]:
    """Every command with its options, put together once per process: that reads hundreds of signatures."""
    return get_command(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        program()(args=arguments, prog_name="xobackup")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(Exit.OK if end.code is None else Exit.FAILED)
    except Terminated:
        return Exit.TERMINATED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Exception as error:  # noqa: BLE001 - the last boundary: nothing may end in a traceback unexplained
        from xobackup.cli.failures import explain

        failure = explain(error)
        Output(as_json=wants_json(arguments)).error(failure.message, hint=failure.hint)
        return failure.exit_code
    return Exit.OK
