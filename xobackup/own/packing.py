"""Files into one archive (``tar.gz``). Members:

config/NAME, config/NAME.d/NAME   the configuration and its drop-ins
files/NNNN                        files it names; the manifest says where they were
state/PATH                        the state directory, less what is made again
history.db                        the history, as an SQLite file
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIG, FILES, STATE, HISTORY = "config/", "files/", "state/", "history.db"
NOT_STATE = frozenset({"journal", "active"})
"""Journals are in the history; marks of running runs mean nothing on another day."""
STATE_FILE_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file: its bytes, or where they are."""

    name: str
    content: bytes | Path
    mode: int = 0o600


def write_archive(path: Path, members: Iterable[Member], mtime: int) -> None:
    """A new file that only we can read, on stable storage. A file that is gone meanwhile is left out."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as tar:
            for member in members:
                _add(tar, member, mtime)
        file.flush()
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, member: Member, mtime: int) -> None:
    entry = tarfile.TarInfo(member.name)
    entry.mode, entry.mtime = member.mode, mtime
    if isinstance(member.content, bytes):
        entry.size = len(member.content)
        tar.addfile(entry, io.BytesIO(member.content))
        return
    try:
        with member.content.open("rb") as source:
            entry.size = os.fstat(source.fileno()).st_size
            tar.addfile(entry, source)
    except FileNotFoundError:
        return


def state_members(directory: Path, without: Iterable[Path] = ()) -> Iterator[Member]:
    """What of a state directory is worth keeping: all files but journals, marks, locks, and ``without``."""
    left_out = {path.resolve() for path in without}
    for root, directories, names in os.walk(directory):
        where = Path(root)
        if where == directory:
            directories[:] = [name for name in directories if name not in NOT_STATE]
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(names):
            path = where / name
            hidden = name.startswith(".") or name.endswith((".lock", ".part", "-wal", "-shm", ".aside"))
            if hidden or path.is_symlink() or not path.is_file() or path.resolve() in left_out:
                continue
            if path.stat().st_size <= STATE_FILE_BYTES_MAX:
                yield Member(name=f"{STATE}{path.relative_to(directory)}", content=path)
