"""``xobackup remote encryption``: is a remote encrypted, how, and is the key the right one?"""

from __future__ import annotations

import secrets
import string
from typing import Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption
from xobackup.cli.output import Output

app = typer.Typer(no_args_is_help=True, help="Encryption of remotes.")

RemoteArgument = Annotated[str, typer.Argument(metavar="REMOTE", help="A remote of the configuration, or a URL.")]
KEY_CHARACTERS = 32
KEY_ALPHABET = string.ascii_letters + string.digits


@app.command("generate-key")
def generate_key(as_json: JsonOption = False) -> None:
    """Print a new random key. Keep it outside of what it protects: without it no backup can be read."""
    output = Output(as_json=as_json)
    key = "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_CHARACTERS))
    output.record("key", {"key": key})
    output.say(key)


@app.command()
def status(remote: RemoteArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether a remote is encrypted, and how. Needs no key and changes nothing."""
    from remotes.encryption.markers import read_markers
    from xobackup.cli.repositories import remote_targets
    from xobackup.engine.storage import encryption_of, open_plain_remote

    output = Output(as_json=as_json)
    (target,) = remote_targets(config, remote)
    opened = open_plain_remote(target)
    try:
        markers = read_markers(opened)
        key_given = encryption_of(target) is not None
        told = {
            "remote": opened.url,
            "encrypted": markers.encrypted,
            "algorithm": markers.algorithm if markers.encrypted else None,
            "key_check": markers.check is not None,
            "empty": not markers.content,
            "key_given": key_given,
        }
        output.record("encryption", told)
        output.say(f"{opened.url}: {_sentence(encrypted=markers.encrypted, algorithm=markers.algorithm or '')}")
        if markers.encrypted and markers.check is None:
            output.say("  metadata.json, which proves a key, is missing", style="yellow")
        if not markers.encrypted and key_given and not markers.content:
            output.say("  it is empty: the first backup will make it encrypted")
        if markers.encrypted and not key_given:
            output.say("  no key is configured for it", style="yellow")
    finally:
        opened.close()


@app.command()
def check(remote: RemoteArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Prove that the configured key is the one the remote was made with. Changes nothing."""
    from remotes.encryption.markers import read_markers
    from xobackup.cli.repositories import remote_targets
    from xobackup.engine.storage import encryption_of, open_plain_remote, open_remote_of

    output = Output(as_json=as_json)
    (target,) = remote_targets(config, remote)
    if encryption_of(target) is None:
        hint = 'give it: [remotes.NAME] encryption = { key = { file = "/path" } }'
        raise Outcome(Exit.USAGE, f"{target.name}: no key is configured", hint=hint)
    plain = open_plain_remote(target)
    try:
        markers = read_markers(plain)
    finally:
        plain.close()
    open_remote_of(target).close()
    proven = markers.check is not None
    output.record("key-check", {"remote": plain.url, "proven": proven, "empty": not markers.content})
    if proven:
        output.say(f"{plain.url}: the key is right ({markers.algorithm or 'chacha20-poly1305'})", style="green")
    else:
        output.say(f"{plain.url}: nothing is there yet; the first backup will be encrypted with this key")


def _sentence(*, encrypted: bool, algorithm: str) -> str:
    if not encrypted:
        return "not encrypted"
    return f"encrypted ({algorithm or 'unknown algorithm'}), as Xen Orchestra does"
