"""Remotes that runs have written to are remembered on this machine, so that a lost mount is not taken for a new one.

``<state>/remotes/<name>.json`` holds the identity (:mod:`xobackup.repository.identity`) that a remote had. A run
refuses a remote that has another identity, or none and no backups: an empty directory where the share was mounted.
Whoever means it says so with ``xobackup remote accept``; pointing a remote to another URL says so as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remotes import faces
from xobackup.clock import utc
from xobackup.engine.errors import EngineError
from xobackup.repository.errors import BadMetadata
from xobackup.repository.identity import Identity, create_identity, read_identity

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a remote was when it was last written to. ``url`` is without secrets."""

    id: str
    since: str
    url: str


def judge(known: Known | None, found: Identity | None, *, url: str, has_backups: bool) -> str:
    """Why a remote is not the one it was, as a sentence; ``""`` when nothing speaks against it."""
    if known is None or known.url != url:
        return ""
    if found is not None:
        return "" if found.id == known.id else f"expected repository {known.id}, found another one, {found.id}"
    return "" if has_backups else f"expected repository {known.id} (since {known.since}), found none at all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is remembered of a remote, what it says of itself, and what speaks against it."""

    known: Known | None
    found: Identity | None
    problem: str

    @property
    def hint(self) -> str:
        return "is its storage mounted? If it is meant to be a new one: xobackup remote accept NAME"


def look_at(state_directory: Path, name: str, repository: Repository) -> Look:
    """Compare; changes nothing. A damaged identity is an :class:`EngineError`: it proves nothing."""
    known = read_known(known_path(state_directory, name))
    try:
        found = read_identity(repository.remote)
    except BadMetadata as error:
        hint = f"look at that file; to give the remote a new identity: xobackup remote accept {name}"
        raise EngineError(str(error), hint=hint) from error
    has_backups = found is None and known is not None and bool(repository.vms())
    problem = judge(known, found, url=repository.remote.url, has_backups=has_backups)
    return Look(known=known, found=found, problem=problem)


def recognise(world: World, name: str, repository: Repository, *, writing: bool) -> None:
    """Refuse a remote that is not the one it was. ``writing``: give a new one its identity, and remember it."""
    remote, look = repository.remote, look_at(world.state_directory, name, repository)
    known, found = look.known, look.found
    if look.problem:
        raise EngineError(look.problem, hint=look.hint)
    if not writing:
        return
    if found is None:
        new = Identity(id=world.new_id(), since=utc(world.clock.now_s()).strftime("%Y-%m-%d %H:%M UTC"))
        same = known is not None and known.url == remote.url
        found = create_identity(remote, Identity(id=known.id, since=known.since) if known and same else new)
    if repository.options.lock is not None:
        faces.relock(remote, [])
    now = Known(id=found.id, since=found.since, url=remote.url)
    if now != known:
        _remember(known_path(world.state_directory, name), now)


def known_path(state_directory: Path, name: str) -> Path:
    """Where it is remembered; names of remotes are safe in paths."""
    return state_directory / "remotes" / f"{name}.json"


def read_known(path: Path) -> Known | None:
    """``None`` when nothing is remembered, or nothing that makes sense."""
    try:
        fields = json.loads(path.read_bytes())
        return Known(id=str(fields["id"]), since=str(fields["since"]), url=str(fields["url"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # torn by a crash: as good as none, the remote itself still knows who it is


def forget(path: Path) -> Known | None:
    """Forget the remote; returns what it was."""
    known = read_known(path)
    path.unlink(missing_ok=True)
    return known


def _remember(path: Path, known: Known) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")  # of one run of several at once
    try:
        with temporary.open("w") as file:
            json.dump(asdict(known), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
