"""Which repository is this? ``.xobackup/remote.json``, written once, says so: an id, and since when.

Under a lost mount lies an empty directory that looks like a new repository. Whoever remembers the id that a remote
had (:mod:`xobackup.engine.known_remotes`) is not taken in. Losing the file loses no backup.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from remotes.contract import Remote
from remotes.errors import AlreadyExists, NotFound
from xobackup.repository.errors import BadMetadata
from xobackup.repository.json_text import parse_object
from xobackup.repository.layout import PRIVATE

NAME = f"{PRIVATE}/remote.json"
DAMAGED = f"{NAME}.damaged"
VERSION = 1
_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """``since`` is a UTC time, for humans."""

    id: str
    since: str


def read_identity(remote: Remote) -> Identity | None:
    """``None`` when it has none. :class:`~xobackup.repository.errors.BadMetadata` when the file is not ours."""
    try:
        raw = remote.get(NAME, limit_bytes=_BYTES_MAX)
    except NotFound:
        return None
    found = parse_object(raw, NAME)
    try:
        return Identity(id=str(uuid.UUID(str(found["id"]))), since=str(found.get("since", "")))
    except (KeyError, ValueError):
        raise BadMetadata(NAME, f"expected an id that is a uuid, found {str(found.get('id'))[:60]!r}") from None


def create_identity(remote: Remote, identity: Identity) -> Identity:
    """Give the remote this identity; whoever was first wins, and is returned."""
    value = {"version": VERSION, "id": identity.id, "since": identity.since}
    try:
        remote.put(NAME, json.dumps(value).encode(), replace=False)
    except AlreadyExists:
        found = read_identity(remote)
        if found is not None:
            return found
        raise
    return identity


def set_damaged_aside(remote: Remote) -> None:
    """Keep what is no identity under another name, so that the remote can have a new one."""
    remote.rename(NAME, DAMAGED, replace=True)
