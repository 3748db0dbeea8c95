"""Files that appear whole or not at all, for their owner's eyes only, and never in the place of another unless asked.

The content is written to a temporary file beside the new one and is durable before it gets the name; a process that
dies in between leaves a hidden ``.NAME.PID.tmp`` and what was there before.
"""

from __future__ import annotations

import os
from pathlib import Path

from xobackup.config.errors import ConfigError

MODE = 0o600


def refuse_existing(paths: list[Path]) -> None:
    """Raise :class:`ConfigError` when one of ``paths`` is there already."""
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        raise ConfigError([f"{path}: it is there already" for path in there[:5]], hint="--force overwrites it")


def write_new(path: Path, content: str, *, force: bool) -> None:
    """Write a file; ``force`` replaces one that is there. Raises ``OSError`` and :class:`ConfigError`."""
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if force:
            temporary.replace(path)
        else:
            _name(temporary, path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_directory(path: Path) -> None:
    """For the owner only, durable; one that is there is left as it is."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise ConfigError([f"{path}: expected a directory"]) from None
        return
    _sync_directory(path.parent)


def _name(temporary: Path, path: Path) -> None:
    """Unlike a rename, a link never takes the place of what came there meanwhile."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise ConfigError([f"{path}: it is there already"], hint="--force overwrites it") from None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
