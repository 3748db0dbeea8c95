"""An archive onto a remote: its pieces first, the manifest last. Before that nothing is there for anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from remotes.contract import Remote
from xobackup.own.layout import directory, manifest_name, part_name
from xobackup.own.manifest import Manifest, Piece, pack

PIECE_BYTES = 16 << 20
"""What is in memory at a time; an object of an encrypted remote is sealed as a whole."""


def publish(remote: Remote, archive: Path, manifest: Manifest) -> Manifest:
    """``manifest`` with its pieces, once all of it is there. Raises ``RemoteError``; ``AlreadyExists`` when there is
    one of that second."""
    at = directory(manifest.machine)
    pieces = []
    for number, data in enumerate(_pieces(archive)):
        remote.put(f"{at}/{part_name(manifest.stamp, number)}", data, replace=False)
        pieces.append(Piece(size=len(data), sha256=hashlib.sha256(data).hexdigest()))
    complete = replace(manifest, pieces=tuple(pieces))
    remote.put(f"{at}/{manifest_name(manifest.stamp)}", pack(complete), replace=False)
    return complete


def _pieces(archive: Path) -> Iterator[bytes]:
    with archive.open("rb") as file:
        while data := file.read(PIECE_BYTES):
            yield data
