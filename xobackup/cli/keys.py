"""``xobackup remote key``: the keys of a remote that is encrypted in our own way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from remotes.contract import Remote
    from remotes.encryption.keyring import Keyring
    from remotes.encryption.slots import Slot

app = typer.Typer(no_args_is_help=True, help="Keys of a remote encrypted in xobackup's own way.")

RemoteArgument = Annotated[str, typer.Argument(metavar="REMOTE", help="A remote of the configuration.")]
LabelOption = Annotated[str, typer.Option("--label", help="What the key is called in `remote key list`.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="A file with the new key or passphrase, not readable by everybody.")
]
EnvOption = Annotated[
    str | None, typer.Option("--env", help="An environment variable with the new key or passphrase.")
]


@app.command("list")
def list_keys(remote: RemoteArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The keys that open a remote: their kinds and labels. Needs none of them."""
    from datetime import UTC, datetime

    from remotes.encryption.keyring import slots_of

    output = Output(as_json=as_json)
    with _plain(config, remote) as opened:
        slots, broken = slots_of(opened)
    rows = []
    for slot in slots:
        made = datetime.fromtimestamp(slot.created_s, tz=UTC).strftime("%Y-%m-%d %H:%M")
        output.record("key", _facts(slot))
        rows.append([slot.id, slot.kind.value, slot.label, made])
    if rows:
        output.table(None, ["id", "kind", "label", "made (UTC)"], rows)
    else:
        output.say("no keys: the remote is not encrypted in xobackup's own way")
    for one in broken:
        output.record("broken-key", asdict(one))
        output.say(f"{one.name} is damaged: {one.problem}", style="red")


@app.command()
def add(
    remote: RemoteArgument,
    label: LabelOption = "",
    file: FileOption = None,
    env: EnvOption = None,
    recovery: Annotated[
        bool, typer.Option("--recovery", help="Make a new key and print it once, to be written down.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a key: from then on it opens the remote too. No data is written again."""
    output = Output(as_json=as_json)
    new = _new_secret(file, env, recovery=recovery)
    with _keyring(config, remote) as ring:
        known = {slot.id for slot in _slots(ring)}
        slot = ring.add(new.text, label=label, created_s=_now_s(), recovery=recovery)
    output.record("key", {**_facts(slot), "added": slot.id not in known})
    if slot.id in known:
        output.say(f"it is key {slot.id} ({slot.label or slot.kind.value}) already")
    else:
        output.say(f"added {slot.kind.value} {slot.id}")
    if recovery:
        output.record("recovery-key", {"id": slot.id, "key": new.text})
        output.say("write this down and keep it away from here; it is not shown again:")
        output.say(f"  {new.text}")


@app.command()
def remove(
    remote: RemoteArgument,
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a key away; never the one the configuration has. Who copied the data key with it before can still read."""
    output = Output(as_json=as_json)
    with _keyring(config, remote) as ring:
        ring.remove(key)
    output.record("removed-key", {"id": key})
    output.say(f"removed {key}")


@app.command()
def rotate(
    remote: RemoteArgument,
    label: LabelOption = "",
    file: FileOption = None,
    env: EnvOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a new key in the place of the configured one. The old one goes when the new one is proven."""
    output = Output(as_json=as_json)
    new = _new_secret(file, env, recovery=False)
    with _keyring(config, remote) as ring:
        old = ring.opened_by.id
        slot = ring.rotate(new.text, label=label, created_s=_now_s())
    output.record("key", {**_facts(slot), "replaced": old if old != slot.id else None})
    if old == slot.id:
        output.say(f"it is key {slot.id} already: nothing to do")
        return
    output.say(f"key {slot.id} is in the place of {old}")
    output.say("now let the configuration name the new one: remotes.NAME.encryption.key")


@dataclass(frozen=True, slots=True)
class _NewSecret:
    text: str


def _new_secret(file: Path | None, env: str | None, *, recovery: bool) -> _NewSecret:
    import secrets

    from remotes.encryption.keytext import pack_key
    from xobackup.config.secrets import Secret, resolve

    if sum((file is not None, env is not None, recovery)) != 1:
        expected = "exactly one of --file, --env, --recovery" if recovery else "exactly one of --file and --env"
        raise Outcome(Exit.USAGE, f"expected {expected}", hint="a key is never given on the command line itself")
    if recovery:
        return _NewSecret(pack_key(secrets.token_bytes(32)))
    return _NewSecret(resolve(Secret(file=file, env=env), "the new key"))


@contextlib.contextmanager
def _plain(config: Path | None, name: str) -> Iterator[Remote]:
    from xobackup.cli.repositories import remote_targets
    from xobackup.engine.storage import open_plain_remote

    (target,) = remote_targets(config, name)
    opened = open_plain_remote(target)
    try:
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def _keyring(config: Path | None, name: str) -> Iterator[Keyring]:
    """The remote's keyring, opened with the configured key."""
    from remotes.encryption.keyring import open_keyring
    from xobackup.cli.repositories import remote_targets
    from xobackup.engine.storage import OWN, encryption_of

    (target,) = remote_targets(config, name)
    encryption = encryption_of(target)
    if encryption is None or encryption.mode != OWN:
        hint = 'keys come and go only with [remotes.NAME] encryption = { mode = "xobackup", key = ... }'
        raise Outcome(Exit.USAGE, f"{target.name}: it is not configured with xobackup's own encryption", hint=hint)
    with _plain(config, name) as opened:
        yield open_keyring(opened, encryption.key)


def _slots(ring: Keyring) -> list[Slot]:
    from remotes.encryption.keyring import slots_of

    return slots_of(ring.remote)[0]


def _facts(slot: Slot) -> dict[str, object]:
    return {"id": slot.id, "type": slot.kind.value, "label": slot.label, "created_s": slot.created_s}


def _now_s() -> float:
    from xobackup.clock import SystemClock

    return SystemClock().now_s()
