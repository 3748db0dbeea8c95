"""What belongs to a backup of our own, made and published: for ``xobackup self backup`` and for the service."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

    from xobackup.clock import Clock
    from xobackup.config.model import Configuration
    from xobackup.own.manifest import Manifest
    from xobackup.own.packing import Member

STATE = "own-backup.json"
WORK = ".own-backup"
"""A directory of the state directory while one is made; what a dead process left there is removed by the next."""
FILE_BYTES_MAX = 1 << 20
PUBLIC_FILES = frozenset({"ca", "certificate", "guest_hook_ca"})
PRIVATE_FILES = frozenset({"key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of it on one remote. ``problem``: empty when it is there."""

    remote: str
    stamp: str = ""
    size_bytes: int = 0
    secrets: bool = False
    notes: tuple[str, ...] = ()
    deleted: int = 0
    problem: str = ""
    hint: str = ""


def machine_name(configuration: Configuration) -> str:
    """Of this machine, in the names of its backups."""
    return configuration.own.name or socket.gethostname()


def back_up(
    configuration: Configuration, path: Path, clock: Clock, *, remotes: Sequence[str] | None = None
) -> list[Made]:
    """Onto every remote of ``[self]``, or some of them, one after the other, whatever became of those before."""
    from xobackup.config.errors import ConfigError
    from xobackup.own.errors import OwnError

    chosen = configuration.own.remotes if remotes is None else remotes
    try:
        with _alone(configuration.state_directory) as work:
            return [_on(configuration, path, name, work, clock) for name in chosen]
    except (OwnError, ConfigError, OSError) as error:
        hint = getattr(error, "hint", "") or ""
        return [Made(remote=name, problem=str(error), hint=hint) for name in chosen]


def _on(configuration: Configuration, path: Path, name: str, work: Path, clock: Clock) -> Made:
    from remotes.errors import RemoteError
    from xobackup.cli.failures import hint_of
    from xobackup.cli.jobs import remote_target
    from xobackup.config.errors import ConfigError
    from xobackup.engine.errors import EngineError
    from xobackup.engine.storage import encryption_of, open_remote_of
    from xobackup.history.errors import HistoryError
    from xobackup.own.errors import OwnError
    from xobackup.own.keeping import expire
    from xobackup.own.publishing import publish

    try:
        target = remote_target(configuration, name)
        secrets = encryption_of(target) is not None
        manifest = packed(configuration, path, work, secrets=secrets, now_s=clock.now_s())
        remote = open_remote_of(target)
        try:
            done = publish(remote, work / "archive", manifest)
            gone = expire(remote, done.machine, keep=configuration.own.keep, now_s=clock.now_s())
        finally:
            remote.close()
    except (RemoteError, ConfigError, EngineError, HistoryError, OwnError, OSError) as error:
        return Made(remote=name, problem=str(error), hint=hint_of(error) or "")
    _remember(configuration.state_directory, name, clock.now_s())
    return Made(
        remote=name,
        stamp=done.stamp,
        size_bytes=done.size_bytes,
        secrets=secrets,
        notes=done.notes,
        deleted=len(gone),
    )


def packed(configuration: Configuration, path: Path, work: Path, *, secrets: bool, now_s: float) -> Manifest:
    """The archive in ``work``, and the manifest that is still to get its pieces."""
    from xobackup.cli.history_store import history_url
    from xobackup.engine.run import version
    from xobackup.history.copying import save
    from xobackup.history.store import open_store, sqlite_path
    from xobackup.own.layout import stamp_of
    from xobackup.own.manifest import Manifest
    from xobackup.own.packing import HISTORY, Member, state_members, write_archive

    url = history_url(configuration)
    store = open_store(url)
    try:
        save(store, work / HISTORY)
    finally:
        store.close()
    members, elsewhere, notes = _configured(configuration, path, secrets=secrets)
    database = sqlite_path(url)
    state = state_members(configuration.state_directory, [database] if database else [])
    members += state if secrets else _scrubbed(state, configuration)
    members.append(Member(name=HISTORY, content=work / HISTORY))
    write_archive(work / "archive", members, int(now_s))
    return Manifest(
        machine=machine_name(configuration),
        stamp=stamp_of(now_s),
        program=version() or "",
        secrets=secrets,
        pieces=(),
        elsewhere=elsewhere,
        notes=tuple(notes),
    )


def _scrubbed(members: Iterator[Member], configuration: Configuration) -> Iterator[Member]:
    """Should somebody have written a secret into a remark."""
    from xobackup.config.secret_places import known_values
    from xobackup.scrub import Scrubber

    scrubber = Scrubber(known_values(configuration, arguments=False)[0])
    for one in members:
        content = one.content if isinstance(one.content, bytes) else one.content.read_bytes()
        yield replace(one, content=scrubber.clean(content))


def _configured(
    configuration: Configuration, path: Path, *, secrets: bool
) -> tuple[list[Member], dict[str, str], list[str]]:
    """The configuration's own files, and those it names with their places; and what is missing."""
    from xobackup.config.load import files_of, load_raw
    from xobackup.config.redacting import redacted
    from xobackup.own.packing import CONFIG, FILES, Member

    members: list[Member] = []
    notes: list[str] = []
    path = path.absolute()
    if secrets:
        for file in files_of(path):
            inside = file.relative_to(path.parent)
            members.append(Member(name=f"{CONFIG}{inside}", content=file.read_bytes(), mode=0o640))
    else:
        text, notes = redacted(load_raw(path), configuration, path.parent)
        members.append(Member(name=f"{CONFIG}{path.name}", content=text.encode(), mode=0o640))
    elsewhere: dict[str, str] = {}
    for where, source, target in _named_files(configuration, path.parent, secrets=secrets, notes=notes):
        if target in elsewhere.values():
            continue
        try:
            with source.open("rb") as opened:
                content = opened.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            notes.append(f"{where}: {source} could not be read: {error.strerror}")
            continue
        if len(content) > FILE_BYTES_MAX:
            notes.append(f"{where}: {source} is larger than {FILE_BYTES_MAX} bytes and not in it")
            continue
        name = f"{FILES}{len(elsewhere):04d}"
        elsewhere[name] = target
        members.append(Member(name=name, content=content))
    return members, elsewhere, notes


def _named_files(
    configuration: Configuration, directory: Path, *, secrets: bool, notes: list[str]
) -> Iterator[tuple[str, Path, str]]:
    """Key, where it is, where it goes. What cannot be taken along is noted."""
    from xobackup.config.errors import ConfigError
    from xobackup.config.secret_places import key_text, secrets_of
    from xobackup.config.secrets import file_path

    for key, secret in secrets_of(configuration):
        where = key_text(key)
        if secret.env is not None:
            notes.append(f"{where}: set the environment variable {secret.env} again")
        elif secret.command is not None:
            notes.append(f"{where}: comes from the command {secret.command[0]}, which has to be there")
        elif secret.file is not None and not secrets:
            notes.append(f"{where}: write the secret into {secret.file}")
        elif secret.file is not None:
            try:
                source = file_path(secret.file, where)
            except ConfigError as error:
                notes += error.problems
                continue
            target = source if secret.file.is_absolute() else directory / "secrets" / secret.file
            if target != source:
                notes.append(
                    f"{where}: a credential of systemd's, kept as {target}: LoadCredential={secret.file}:{target}"
                )
            yield where, source, str(target)
    for where, name, file in _paths(configuration, ""):
        if name in PUBLIC_FILES or (name in PRIVATE_FILES and secrets):
            yield where, file, str(file.absolute())
        elif name in PRIVATE_FILES:
            notes.append(f"{where}: write the key into {file}")


def _paths(model: BaseModel, at: str) -> Iterator[tuple[str, str, Path]]:
    """Every path that sections name, with its key."""
    from pydantic import BaseModel

    from xobackup.config.secrets import Secret

    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        where = f"{at}.{field.alias or name}".lstrip(".")
        for inner, one in _each(value):
            if isinstance(one, BaseModel) and not isinstance(one, Secret):
                yield from _paths(one, f"{where}.{inner}".rstrip("."))
            elif isinstance(one, Path):
                yield where, name, one


def _each(value: object) -> list[tuple[object, object]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, tuple) else [("", value)]


@contextmanager
def _alone(state: Path) -> Iterator[Path]:
    """A directory to work in, of which there is one: raises ``OwnError`` while another process is at it."""
    from xobackup.own.errors import OwnError

    work = state / WORK
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(state / f"{STATE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OwnError("another process is making a backup of the configuration") from None
        _empty(work)
        try:
            yield work
        finally:
            _empty(work)
    finally:
        os.close(lock)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def last_made(state: Path) -> dict[str, float]:
    """When the last one was made, by remote; unknown is never."""
    try:
        value = json.loads((state / STATE).read_bytes())
        return {str(name): float(at) for name, at in value["remotes"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _remember(state: Path, remote: str, now_s: float) -> None:
    from xobackup.service.state import write_whole

    write_whole(state / STATE, {"remotes": {**last_made(state), remote: now_s}})


def as_data(made: Made) -> dict[str, object]:
    return asdict(made)
