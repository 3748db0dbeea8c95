"""The command: where the demo works, and what it says at the end."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere
from xobackup.cli.options import JsonOption
from xobackup.cli.output import Output
from xobackup.texts import duration_text

if TYPE_CHECKING:
    from xobackup.cli.demo.story import Summary
    from xobackup.simpool import SimPool

RUNS = 6


def register(app: typer.Typer) -> None:
    """Add the command and the hidden one that dies."""
    app.command()(demo)
    app.command("demo-merge-and-die", hidden=True)(merge_and_die)


def demo(
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", help="Work here and keep everything; must be empty.")
    ] = None,
    remote: Annotated[
        str,
        typer.Option("--remote", "-r", help="local, s3 or nfs (a server is started), or an empty place's URL."),
    ] = "local",
    runs: Annotated[
        int | None, typer.Option("--runs", min=4, max=100, help=f"Backups per VM; {RUNS} unless told otherwise.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another workload.")] = 0,
    look: Annotated[
        bool, typer.Option("--look", help="Then leave the service running on it until Ctrl-C, on a terminal.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every event of every run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a simulated pool, back up two VMs under load past their retention, crash, recover, restore, compare."""
    from xobackup.cli.demo.look import serve_demo, somebody_looks
    from xobackup.cli.demo.nfs import INSIDE, NFS, RUNS_INSIDE, SLOWER, demo_in_machine, kernel_can_mount
    from xobackup.cli.demo.place import repository_url
    from xobackup.cli.demo.story import GUEST_PAUSE_S, Story

    output = Output(as_json=as_json)
    if remote == NFS and not kernel_can_mount():
        if directory is not None or INSIDE in os.environ:
            raise NotThere("this kernel has no NFS client", hint="run the demo without --directory, or elsewhere")
        flags = [*(["--verbose"] if verbose else []), *(["--json"] if as_json else [])]
        demo_in_machine(output, ["--runs", str(runs or RUNS_INSIDE), "--seed", str(seed), *flags])
        return
    with _place(directory) as place, repository_url(remote, place) as url:
        pause_s = GUEST_PAUSE_S * (SLOWER if INSIDE in os.environ else 1)
        story = Story(output, place, url, runs=runs or RUNS, seed=seed, verbose=verbose, guest_pause_s=pause_s)

        def afterwards(summary: Summary, pool: SimPool) -> None:
            _show(output, summary, directory if INSIDE not in os.environ else None)
            if look and remote == "local" and somebody_looks():
                serve_demo(output, place, url, pool)

        story.tell(afterwards)


def _show(output: Output, summary: Summary, directory: Path | None) -> None:
    """What the demo did."""
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
