"""``xobackup self``: our own configuration, history and state, on remotes and back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, RemoteOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from remotes.contract import Remote
    from xobackup.engine.job import RemoteTarget

app = typer.Typer(no_args_is_help=True, help="Back up the configuration, the history and the state themselves.")

KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="The key of an encrypted remote that is given by its URL.")
]
KeyModeOption = Annotated[
    str, typer.Option("--key-mode", metavar="MODE", help="How that remote is encrypted: xo or xobackup.")
]


@app.command()
def backup(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Put the configuration, the history and the state onto the remotes of [self], now."""
    from xobackup.cli.own_backup import as_data, back_up
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.config.load import configuration_path

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    if not configuration.own.remotes:
        raise ConfigError(["[self] remotes names no remote"], hint='[self] remotes = ["NAME"]: docs/own-backup.md')
    made = back_up(configuration, configuration_path(config), SystemClock())
    for one in made:
        output.record("own-backup", as_data(one))
        if one.problem:
            continue
        told = "with secrets" if one.secrets else "without secrets, because the remote is not encrypted"
        output.say(f"{one.remote}: {one.stamp}, {size_text(one.size_bytes)}, {told}")
        for note in one.notes:
            output.say(f"  not in it: {note}")
    bad = [one for one in made if one.problem]
    if bad:
        code = Exit.FAILED if len(bad) == len(made) else Exit.SOME_FAILED
        hint = next((one.hint for one in bad if one.hint), None)
        raise Outcome(code, "\n".join(f"{one.remote}: {one.problem}" for one in bad), hint=hint)


@app.command("list")
def list_(
    remote: RemoteOption = None,
    key_file: KeyFileOption = None,
    key_mode: KeyModeOption = "xobackup",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The backups of configurations that remotes hold, of this machine and of others."""
    from xobackup.own.listing import look, machines, read_manifest

    output = Output(as_json=as_json)
    rows = []
    for target in _targets(config, remote, key_file, key_mode):
        with _opened(target) as opened:
            for machine in machines(opened):
                for stamp in look(opened, machine).complete:
                    one = read_manifest(opened, machine, stamp)
                    fields = {"remote": target.name, "machine": machine, "stamp": stamp, "bytes": one.size_bytes}
                    output.record("own-backup", {**fields, "secrets": one.secrets, "version": one.program})
                    secrets = "with secrets" if one.secrets else ""
                    rows.append([target.name, machine, stamp, size_text(one.size_bytes), secrets, one.program])
    if rows:
        output.table(None, ["remote!", "machine!", "backup!", "size>!", "", "made by!"], rows)
    else:
        output.say("there is no backup of a configuration")


@app.command()
def restore(
    remote: RemoteOption = None,
    machine: Annotated[
        str | None, typer.Option("--machine", help="Whose, when the remote holds those of several.")
    ] = None,
    at: Annotated[str, typer.Option("--at", help="Which one, by the beginning of its name.")] = "latest",
    root: Annotated[
        Path | None, typer.Option("--root", help="Put everything below this directory, for a look.", file_okay=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only say what would be done.")] = False,
    key_file: KeyFileOption = None,
    key_mode: KeyModeOption = "xobackup",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back a machine's configuration, history and state where there are none. Replaces no file."""
    from xobackup.cli.own_restore import bring_back
    from xobackup.config.load import configuration_path
    from xobackup.engine.storage import encryption_of
    from xobackup.own.listing import choose, read_manifest

    output = Output(as_json=as_json)
    targets = _targets(config, remote, key_file, key_mode)
    if len(targets) != 1:
        raise Outcome(Exit.USAGE, "say from which remote", hint="--remote NAME, or its URL")
    (target,) = targets
    with _opened(target) as opened, tempfile.TemporaryDirectory(prefix="xobackup-self-") as work:
        whose, stamp = choose(opened, machine, at)
        manifest = read_manifest(opened, whose, stamp)
        output.say(f"{target.name}: {whose}, {stamp}, {size_text(manifest.size_bytes)}, xobackup {manifest.program}")
        done = bring_back(
            opened,
            manifest,
            Path(work),
            config=configuration_path(config),
            root=root,
            trusted=encryption_of(target) is not None,
            apply=yes,
        )
    for member, path, told in done.files:
        output.record("file", {"member": member, "path": str(path) if path else None, "told": told})
        output.say(f"{path or member}: {told}")
    for note in manifest.notes:
        output.record("to-do", {"text": note})
        output.say(f"to do: {note}", style="yellow")
    if not yes:
        output.say("Nothing was changed: --yes does it.")
        return
    output.say(f"{count_text(done.written, 'file')} written, {count_text(done.runs, 'run')} in the history.")
    output.say("Next: xobackup config check --secrets, xobackup doctor.")


def _targets(config: Path | None, given: str | None, key_file: Path | None, key_mode: str) -> list[RemoteTarget]:
    """By name or URL; those of ``[self]`` when none is given."""
    from dataclasses import replace

    from xobackup.cli.jobs import remote_target
    from xobackup.cli.repositories import remote_targets
    from xobackup.config.errors import ConfigError
    from xobackup.config.secrets import Secret, resolve
    from xobackup.engine.storage import OWN, XO, Encryption, Storage

    if key_mode not in (XO, OWN):
        raise ConfigError([f"--key-mode: expected {XO} or {OWN}, found {key_mode!r}"])
    if given is not None:
        targets = remote_targets(config, given)
    else:
        configuration = read_configuration(config)
        targets = [remote_target(configuration, name) for name in configuration.own.remotes]
        if not targets:
            raise ConfigError(["[self] remotes names no remote"], hint="name one with --remote")
    if key_file is None:
        return targets
    key = resolve(Secret(file=key_file.absolute()), "--key-file")
    storage = Storage(encryption=Encryption(key=key, mode=key_mode))
    return [replace(target, storage=storage) for target in targets]


@contextmanager
def _opened(target: RemoteTarget) -> Iterator[Remote]:
    from xobackup.engine.storage import open_remote_of

    remote = open_remote_of(target)
    try:
        yield remote
    finally:
        remote.close()
