"""The command: where the demo works, and what it says at the end."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from xobackup.cli.errors import NotThere
from xobackup.cli.options import JsonOption
from xobackup.cli.output import Output, duration_text


def register(app: typer.Typer) -> None:
    """Add the command and the hidden one that dies."""
    app.command()(demo)
    app.command("demo-merge-and-die", hidden=True)(merge_and_die)


def demo(
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="Work here and keep everything; must be empty.")
    ] = None,
    remote: Annotated[
        str, typer.Option("--remote", "-r", help="local, s3 (an emulator is started), or the URL of an empty place.")
    ] = "local",
    runs: Annotated[int, typer.Option("--runs", min=4, max=100, help="Backups per VM.")] = 6,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another workload.")] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every event of every run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a simulated pool, back up two VMs under load past their retention, crash, recover, restore, compare."""
    from xobackup.cli.demo.place import repository_url
    from xobackup.cli.demo.story import Story

    output = Output(as_json=as_json)
    with _place(directory) as place, repository_url(remote, place) as url:
        summary = Story(output, place, url, runs=runs, seed=seed, verbose=verbose).tell()
    output.record("demo", {**summary.as_data(), "directory": str(directory) if directory else None})
    output.say("")
    for line in summary.lines():
        output.say(line)
    kept = f"; everything is in {directory}" if directory else ""
    output.say(f"\nAll of it was as it should be, in {duration_text(summary.duration_s)}{kept}.", style="bold green")


def merge_and_die(
    vm: Annotated[str, typer.Argument()],
    blocks: Annotated[int, typer.Argument(min=1)],
) -> None:
    """Merge, and be killed by SIGKILL after so many blocks."""
    from xobackup.cli.demo.crash import URL_VARIABLE
    from xobackup.cli.demo.crash import merge_and_die as die

    die(os.environ[URL_VARIABLE], vm, blocks)


@contextlib.contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="xobackup-demo-") as temporary:
            yield Path(temporary)
        return
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise NotThere(f"{directory} is not empty", hint="name a new directory")
    yield directory
