"""``xobackup restore xva``: the archive of a full backup as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import AsOfOption, ConfigOption, JsonOption
from xobackup.cli.output import Output
from xobackup.cli.restore.options import CheckOption, FromOption, PointArgument, VmArgument, archive_text, found
from xobackup.texts import size_text

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="The file to write; - is standard output.", allow_dash=True)
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("xva")(restore)


def restore(
    vm: VmArgument,
    remote: FromOption,
    output_path: OutputOption,
    point: PointArgument = "latest",
    force: ForceOption = False,
    check: CheckOption = True,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the archive (XVA) of a full backup as it is, to a file or to standard output."""
    from xobackup.cli.live import world_of
    from xobackup.engine.full.extract import extract_to_file, extract_to_pipe

    to_pipe = str(output_path) == "-"
    if to_pipe and as_json:
        raise NotThere("standard output cannot carry both the archive and JSON")
    if to_pipe and sys.stdout.isatty():
        raise NotThere("an archive does not belong on a terminal", hint="redirect standard output")
    if not to_pipe and output_path.exists() and not force:
        raise NotThere(f"{output_path}: it exists already", hint="give another name, or --force to replace it")
    output = Output(as_json=as_json)
    with world_of(output, Path()) as world, found(config, remote, vm, point, as_of=as_of) as (repository, chosen, _):
        if chosen.xva is None:
            raise NotThere(
                f"restore point {chosen.id} is no full backup: it has no archive", hint="see `restore disk`"
            )
        try:
            if to_pipe:
                written = extract_to_pipe(world, repository, chosen, sys.stdout.fileno(), check=check)
            else:
                written = extract_to_file(world, repository, chosen, output_path, replace=force, check=check)
        except BrokenPipeError as error:
            told = "whoever read standard output went away before the archive was whole"
            raise Outcome(Exit.FAILED, told) from error
    checked = archive_text(int(written.checked), 0, check=check)
    target = "standard output" if to_pipe else str(output_path)
    told = f"wrote {size_text(written.size_bytes)} to {target}; {checked}"
    if to_pipe:
        output.note(told)
        return
    output.record("restored", {"target": target, "size_bytes": written.size_bytes, "compared": written.checked})
    output.say(told, style="green")
