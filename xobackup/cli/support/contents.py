"""What goes into a support bundle: each part found by itself, so that what is broken does not hide the rest. Every
part has a bound."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xobackup.cli.support.archive import Part

if TYPE_CHECKING:
    from xobackup.config.model import Configuration

JOURNAL_BYTES_MAX = 4 << 20
ROWS_MAX = 500
LOG_BYTES_MAX = 4 << 20
STATE_BYTES_MAX = 1 << 20
FILES_MAX = 2000
CRASHES_MAX = 5
STATE_FILES = ("schedules.json", "paused.json", "node.json", "notified.json", "digests.json", "own-backup.json")
"""Of the service's; the tokens' hashes stay at home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to look. ``configuration``: ``None`` when the file is not one; ``problem`` says why."""

    path: Path
    state: Path
    configuration: Configuration | None
    problem: str = ""
    secrets_known: bool = True
    """Whether there are any words to search for."""
    journals: int = 5
    logs: tuple[Path, ...] = ()
    anonymous: bool = False


def parts_of(place: Place, *, doctor_s: float | None) -> list[Part]:
    """Everything. ``doctor_s``: for how long to look at pools and remotes; ``None``: ask nobody."""
    finders: list[Callable[[Place], Iterator[Part]]] = [_versions, _configuration, _state, _service]
    if place.configuration is not None:
        finders += [_history, _journals]
    if not place.anonymous and place.secrets_known:
        finders += [_crashes, _logs]
    parts: list[Part] = []
    for find in finders:
        name = find.__name__.strip("_")
        try:
            parts += list(find(place))
        except (OSError, ValueError, sqlite3.Error) as error:
            told = {"problem": str(error)}
            parts.append(Part(name=f"{name}.problem.json", about="could not be read", content=told))
    if doctor_s is not None and place.configuration is not None:
        parts.append(_doctor(place, doctor_s))
    return parts


def _versions(_place: Place) -> Iterator[Part]:
    wanted = metadata.requires("xobackup") if _installed() else []
    names = sorted({one.split(";")[0].split("[")[0].split(">")[0].split("<")[0].strip() for one in wanted or []})
    packages = {}
    for name in ("xobackup", *names):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    yield Part(
        name="versions.json",
        about="of xobackup, Python, the libraries and the system",
        content={
            "packages": {name: {"version": version} for name, version in packages.items()},
            "python": {"version": platform.python_version(), "executable": sys.executable},
            "system": {"version": platform.platform()},
            "openssl": {"version": ssl.OPENSSL_VERSION.partition("  ")[0]},
            "sqlite": {"version": sqlite3.sqlite_version},
        },
    )


def _installed() -> bool:
    try:
        metadata.version("xobackup")
    except metadata.PackageNotFoundError:
        return False
    return True


def _configuration(place: Place) -> Iterator[Part]:
    from xobackup.config.load import files_of
    from xobackup.config.secret_places import shown

    files = []
    for path in files_of(place.path):
        if path.exists():
            there = path.stat()
            files.append({"file": str(path), "size": there.st_size, "mode": oct(there.st_mode & 0o777)})
    yield Part(name="configuration-files.json", about="which files it is read from", content=files)
    if place.configuration is None:
        told = {"problem": place.problem}
        yield Part(name="configuration.json", about="it cannot be used, and why", content=told)
    else:
        about = "what it says; secrets are told by where they come from alone, commands by their program"
        yield Part(name="configuration.json", about=about, content=shown(place.configuration))


def _state(place: Place) -> Iterator[Part]:
    found: list[dict[str, Any]] = []
    total: dict[str, dict[str, int]] = {}
    for directory, _, names in os.walk(place.state):
        where = Path(directory).relative_to(place.state)
        for name in sorted(names):
            size = (Path(directory) / name).lstat().st_size
            top = total.setdefault(where.parts[0] if where.parts else ".", {"files": 0, "bytes": 0})
            top["files"] += 1
            top["bytes"] += size
            if len(found) < FILES_MAX:
                found.append({"file": str(where / name), "bytes": size})
    free = os.statvfs(place.state) if place.state.exists() else None
    yield Part(
        name="state-directory.json",
        about="what is in it, and how large",
        content={
            "directory": str(place.state),
            "free_bytes": free.f_bavail * free.f_frsize if free else None,
            "sizes": total,
            "files": found,
        },
    )


def _service(place: Place) -> Iterator[Part]:
    from xobackup.service.state import LOCK
    from xobackup.web.audit import NAME as AUDIT

    yield Part(name="service/serving.json", about="whether it runs", content={"runs": _held(place.state / LOCK)})
    if place.configuration is None:
        return  # what it keeps is free text, and which words are secret is not known
    for name in STATE_FILES:
        path = place.state / name
        if path.exists():
            kept = json.loads(_head(path, STATE_BYTES_MAX))
            content = kept if path.stem == "schedules" else {path.stem: kept}
            yield Part(name=f"service/{name}", about="what the service remembers", content=content)
    audit = place.state / AUDIT
    if audit.exists():
        yield Part(name=f"service/{AUDIT}.json", about="who did what on the page, lately", content=_lines(audit))


def _held(lock: Path) -> bool:
    import fcntl

    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _history(place: Place) -> Iterator[Part]:
    from xobackup.cli.history_store import history_url
    from xobackup.config.errors import ConfigError
    from xobackup.history import ask
    from xobackup.history.errors import HistoryError
    from xobackup.history.store import open_store

    assert place.configuration is not None
    try:
        store = open_store(history_url(place.configuration))
        try:
            runs = [dict(row) for row in ask.runs(store, limit=ROWS_MAX)]
            latest = [dict(row) for row in ask.latest(store)][:ROWS_MAX]
        finally:
            store.close()
    except (HistoryError, ConfigError) as error:
        yield Part(name="history/problem.json", about="it cannot be read", content={"problem": str(error)})
        return
    yield Part(name="history/runs.json", about="the last runs", content=runs)
    yield Part(name="history/vms.json", about="how the last run ended for each VM", content=latest)


def _journals(place: Place) -> Iterator[Part]:
    from xobackup.engine.journal import read_journal

    for path in sorted((place.state / "journal").glob("*.jsonl"))[-place.journals :] if place.journals else []:
        if path.stat().st_size > JOURNAL_BYTES_MAX:
            records = [*_lines(path, tail=False), {"kind": "left-out"}, *_lines(path)]
        else:
            records = list(read_journal(path))
        yield Part(name=f"journals/{path.stem}.json", about="everything one run did", content=records)


def _crashes(place: Place) -> Iterator[Part]:
    del place
    mine = [
        path
        for path in Path(tempfile.gettempdir()).glob("xobackup-crash-*.txt")
        if not path.is_symlink() and path.lstat().st_uid == os.geteuid()
    ]
    for path in sorted(mine, key=lambda one: one.lstat().st_mtime)[-CRASHES_MAX:]:
        yield Part(name=f"crashes/{path.name}", about="where a bug stopped it", content=_head(path, STATE_BYTES_MAX))


def _logs(place: Place) -> Iterator[Part]:
    for number, path in enumerate(place.logs):
        yield Part(name=f"logs/{number}-{path.name}", about="the end of it", content=_tail(path, LOG_BYTES_MAX))


def _doctor(place: Place, timeout_s: float) -> Part:
    """In a process of its own, which can be ended whatever it waits for."""
    command = [sys.executable, "-m", "xobackup", "doctor", "--json", "--config", str(place.path)]
    note: dict[str, Any] = {}
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
        out, note["exit"] = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        out, note["stopped_after_s"] = late.stdout or b"", timeout_s
    verdicts = []
    for line in out.decode("utf-8", "replace").splitlines():
        try:
            verdicts.append(json.loads(line))
        except ValueError:
            verdicts.append({"kind": "unreadable"})  # cut off where it was stopped
    return Part(name="doctor.json", about="whether pools, remotes and jobs are usable", content=[note, *verdicts])


def _head(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)


def _tail(path: Path, limit: int) -> bytes:
    """From the beginning of a line on: half a secret would not be known for one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - limit))
        data = file.read(limit)
    return data if size <= limit else data.partition(b"\n")[2]


def _lines(path: Path, *, tail: bool = True) -> list[Any]:
    raw = _tail(path, STATE_BYTES_MAX) if tail else _head(path, STATE_BYTES_MAX).rpartition(b"\n")[0]
    found = []
    for line in raw.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # torn by a crash
    return found
