"""A backup of our own, back in its places: files first that are not there, the history last. Nothing is replaced."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tarfile

    from remotes.contract import Remote
    from xobackup.own.manifest import Manifest
    from xobackup.own.placing import Placed

CONFIG_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """``files``: member, place, what became of it; ``runs``: in the history."""

    files: list[tuple[str, Path | None, str]]
    written: int = 0
    runs: int = 0


def bring_back(
    remote: Remote,
    manifest: Manifest,
    work: Path,
    *,
    config: Path,
    root: Path | None,
    trusted: bool,
    apply: bool,
) -> Brought:
    """Fetch, check, look at every place, and only then write. Raises ``OwnError``, ``HistoryError``, ``OSError``.

    A file that is there with the same content is fine, so that it can be done again after it was interrupted.
    """
    from xobackup.own.errors import InTheWay
    from xobackup.own.fetching import fetch, opened
    from xobackup.own.placing import place

    config = config.absolute()
    fetch(remote, manifest, work / "archive")
    with opened(work / "archive") as tar:
        names = [one.name for one in tar.getmembers() if one.isfile()]
        state = _state_directory(tar, names, config)
        placed = place(names, manifest.elsewhere, config=config, state=state, root=root, trusted=trusted)
        contents = {one.member: _content(tar, one.member) for one in placed if one.path is not None}
        there = {
            one.member: one.path.exists()
            for one in placed
            if one.path is not None and (one.path.exists() or one.path.is_symlink())
        }
        other = [
            str(one.path)
            for one in placed
            if one.path is not None and one.member in there and one.path.read_bytes() != contents[one.member]
        ]
        if other:
            told = f"{', '.join(other[:5])}{' and more' if len(other) > 5 else ''}: there already, and not the same"
            raise InTheWay(told, hint="move them away; or --root DIR, to look at the backup's")
        if not apply:
            return Brought(files=[_told(one, there) for one in placed])
        written = 0
        for one in placed:
            if one.path is not None and one.member not in there:
                _write(one.path, contents[one.member], tar.getmember(one.member).mode)
                written += 1
        runs = _history(tar, placed, work, config, state, root)
    return Brought(files=[_told(one, there) for one in placed], written=written, runs=runs)


def _told(one: Placed, there: dict[str, bool]) -> tuple[str, Path | None, str]:
    if one.why_not:
        return one.member, one.path, f"left out: {one.why_not}"
    return one.member, one.path, "there already" if one.member in there else "comes back"


def _content(tar: tarfile.TarFile, member: str) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None, "only files were asked for"
    return opened.read()


def _state_directory(tar: tarfile.TarFile, names: list[str], config: Path) -> Path:
    """As the configuration in the archive says."""
    from xobackup.config.model import Configuration
    from xobackup.own.errors import Damaged
    from xobackup.own.packing import CONFIG

    found = Configuration().state_directory
    main = f"{CONFIG}{config.name}"
    given = [name for name in names if name.startswith(CONFIG)]
    if main not in given:
        known = ", ".join(name.removeprefix(CONFIG) for name in given if name.count("/") == 1) or "none"
        raise Damaged(f"there is no {config.name} in it (known: {known})", hint="give its name with --config")
    for name in [main, *sorted(one for one in given if one != main)]:
        try:
            value = tomllib.loads(_content(tar, name)[:CONFIG_BYTES_MAX].decode()).get("state_directory")
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{name}: {error}") from error
        found = Path(value) if isinstance(value, str) else found
    if not found.is_absolute() or ".." in found.parts:
        raise Damaged(f"state_directory: expected an absolute path, found {str(found)!r}")
    return found


def _write(path: Path, content: bytes, mode: int) -> None:
    """As a whole or not at all, and never over another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode & 0o640)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)
    finally:
        part.unlink()


def _history(
    tar: tarfile.TarFile, placed: list[Placed], work: Path, config: Path, state: Path, root: Path | None
) -> int:
    """Into the database that the configuration names; below ``root`` into a file there."""
    from xobackup.cli.history_store import history_url
    from xobackup.cli.options import read_configuration
    from xobackup.history.copying import load
    from xobackup.history.store import default_url, open_store
    from xobackup.own.packing import HISTORY

    if not any(one.member == HISTORY for one in placed):
        return 0
    (work / HISTORY).write_bytes(_content(tar, HISTORY))
    if root is not None:
        url = default_url(root / state.relative_to(state.anchor))
    else:
        url = history_url(read_configuration(config))
    store = open_store(url)
    try:
        return load(work / HISTORY, store)
    finally:
        store.close()
