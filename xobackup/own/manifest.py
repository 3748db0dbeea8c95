"""What a backup says of itself: JSON, version 1. Readers ignore what they do not know, and refuse a newer version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from xobackup.own.errors import Damaged

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of the archive."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``secrets``: whether they are in it. ``elsewhere``: members of the archive and the paths they came from, of
    files that the configuration names. ``notes``: what is not in it, as sentences."""

    machine: str
    stamp: str
    program: str
    secrets: bool
    pieces: tuple[Piece, ...]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def size_bytes(self) -> int:
        return sum(one.size for one in self.pieces)


def pack(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), indent=1, sort_keys=True).encode() + b"\n"


def unpack(raw: bytes, name: str) -> Manifest:
    """Raises ``Damaged``; ``name`` is for its message."""
    try:
        value: Any = json.loads(raw)
        if value["version"] > VERSION:
            raise Damaged(f"{name}: made by a newer xobackup (version {value['version']}, known: {VERSION})")
        return Manifest(
            machine=str(value["machine"]),
            stamp=str(value["stamp"]),
            program=str(value.get("program", "")),
            secrets=bool(value["secrets"]),
            pieces=tuple(Piece(size=int(one["size"]), sha256=str(one["sha256"])) for one in value["pieces"]),
            elsewhere={str(member): str(path) for member, path in value.get("elsewhere", {}).items()},
            notes=tuple(str(note) for note in value.get("notes", ())),
            version=int(value["version"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(
            f"{name}: this is no manifest: {error}", hint="is the remote encrypted? Then its key is needed"
        ) from error
