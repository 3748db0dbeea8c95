"""A backup back from a remote into a file, every byte of it proven, and what is in it."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remotes.contract import Remote
from xobackup.own.errors import Damaged
from xobackup.own.layout import directory, part_name
from xobackup.own.manifest import Manifest
from xobackup.own.publishing import PIECE_BYTES


def fetch(remote: Remote, manifest: Manifest, path: Path) -> None:
    """Raises ``Damaged`` for a piece that is not what the manifest says, ``RemoteError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for number, piece in enumerate(manifest.pieces):
            name = f"{directory(manifest.machine)}/{part_name(manifest.stamp, number)}"
            data = remote.get(name, limit_bytes=PIECE_BYTES)
            if len(data) != piece.size or hashlib.sha256(data).hexdigest() != piece.sha256:
                raise Damaged(f"{remote.url}: {name} is not what was written", hint="take an older one: --at STAMP")
            file.write(data)


@contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive. What is wrong with it comes out as ``Damaged``."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise Damaged(f"the archive cannot be read: {error}") from error
