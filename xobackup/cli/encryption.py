"""``xobackup remote encryption``: is a remote encrypted, how, and is the key the right one?"""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption
from xobackup.cli.output import Output
from xobackup.texts import count_text

if TYPE_CHECKING:
    from remotes.encryption.markers import Markers
    from xobackup.engine.job import RemoteTarget

app = typer.Typer(no_args_is_help=True, help="Encryption of remotes.")

RemoteArgument = Annotated[str, typer.Argument(metavar="REMOTE", help="A remote of the configuration, or a URL.")]
KEY_CHARACTERS = 32
KEY_ALPHABET = string.ascii_letters + string.digits


@app.command("generate-key")
def generate_key(
    mode: Annotated[
        Literal["xo", "xobackup"],
        typer.Option("--mode", help="For which mode of encryption; see docs/encryption.md."),
    ] = "xo",
    as_json: JsonOption = False,
) -> None:
    """Print a new random key. Keep it outside of what it protects: without it no backup can be read."""
    from remotes.encryption.keytext import pack_key

    output = Output(as_json=as_json)
    if mode == "xobackup":
        key = pack_key(secrets.token_bytes(32))
    else:
        key = "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_CHARACTERS))
    output.record("key", {"key": key})
    output.say(key)


@app.command()
def init(
    remote: RemoteArgument,
    label: Annotated[str, typer.Option("--label", help="What the key is called in `remote key list`.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty remote encrypted in xobackup's own mode, with the configured key. XO cannot read it."""
    from remotes.encryption.aead import Algorithm
    from remotes.encryption.keyring import DEFAULT_CIPHER, initialise
    from xobackup.cli.repositories import remote_targets
    from xobackup.clock import SystemClock
    from xobackup.engine.storage import OWN, encryption_of, open_plain_remote

    output = Output(as_json=as_json)
    (target,) = remote_targets(config, remote)
    encryption = encryption_of(target)
    if encryption is None or encryption.mode != OWN:
        hint = "a remote encrypted as Xen Orchestra does needs no init: its first backup begins it"
        problem = f'{target.name}: expected encryption = {{ mode = "xobackup", key = ... }} in the configuration'
        raise Outcome(Exit.USAGE, problem, hint=hint)
    cipher = Algorithm(encryption.algorithm) if encryption.algorithm else DEFAULT_CIPHER
    opened = open_plain_remote(target)
    try:
        ring = initialise(opened, encryption.key, label=label, created_s=SystemClock().now_s(), cipher=cipher)
    finally:
        opened.close()
    output.record("initialised", {"remote": opened.url, "cipher": cipher.value, "key": ring.opened_by.id})
    output.say(f"{opened.url}: encrypted from now on ({cipher.value}), key {ring.opened_by.id}", style="green")
    output.say("  Xen Orchestra cannot read what is written there.")
    output.say(
        f"  One key is one too few: `xobackup remote key add {target.name} --recovery` makes one to write down."
    )


@app.command()
def status(remote: RemoteArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether a remote is encrypted, and how. Needs no key and changes nothing."""
    from remotes.encryption.keyring import KEYS, slots_of
    from remotes.encryption.markers import read_markers
    from xobackup.cli.repositories import remote_targets
    from xobackup.engine.storage import encryption_of, open_plain_remote

    output = Output(as_json=as_json)
    (target,) = remote_targets(config, remote)
    opened = open_plain_remote(target)
    try:
        markers = read_markers(opened, ours=frozenset({KEYS}))
        keys = len(slots_of(opened)[0])
        key_given = encryption_of(target) is not None
        told = {
            "remote": opened.url,
            "encrypted": markers.encrypted,
            "algorithm": markers.algorithm if markers.encrypted else None,
            "key_check": markers.check is not None,
            "empty": not markers.content,
            "key_given": key_given,
            "keys": keys,
        }
        output.record("encryption", told)
        output.say(f"{opened.url}: {_sentence(markers, keys)}")
        if markers.encrypted and markers.check is None:
            output.say("  metadata.json, which proves a key, is missing", style="yellow")
        if not markers.encrypted and key_given and not markers.content:
            own = "`xobackup remote encryption init` makes it encrypted"
            output.say(f"  it is empty: {own if _is_own(target) else 'the first backup will make it encrypted'}")
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


def _is_own(target: RemoteTarget) -> bool:
    from xobackup.engine.storage import OWN, encryption_of

    encryption = encryption_of(target)
    return encryption is not None and encryption.mode == OWN


def _sentence(markers: Markers, keys: int) -> str:
    from remotes.encryption.keyring import OWN_ALGORITHM

    if not markers.encrypted:
        return "not encrypted"
    if markers.algorithm == OWN_ALGORITHM:
        return f"encrypted in xobackup's own mode, which Xen Orchestra cannot read; {count_text(keys, 'key')}"
    return f"encrypted ({markers.algorithm or 'unknown algorithm'}), as Xen Orchestra does"
