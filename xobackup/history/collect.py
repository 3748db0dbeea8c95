"""Journal files into the database, and old files away.

A file is read again when it has grown, until its run has ended. What is not in the database is never deleted, nor is
a file whose run may still go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xobackup.engine.journal import read_journal
from xobackup.history.fold import fold
from xobackup.history.store import Store

_NAME = re.compile(r"(\d{13})-[0-9A-Za-z._-]+\.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """``runs``: written; ``unreadable``: files that say nothing of a run."""

    runs: int = 0
    unreadable: tuple[Path, ...] = ()


def catch_up(
    store: Store, directory: Path, *, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Collected:
    """Write what the database does not know yet of the journals in ``directory``. Raises ``HistoryError``.

    ``progress`` hears how many of how many files are done.
    """
    known = store.known_files()
    fresh = [(path, size) for path, size in _files(directory) if known.get(path.name, (-1, False))[0] != size]
    runs, unreadable = 0, []
    for done, (path, size) in enumerate(fresh, start=1):
        try:
            run = fold(read_journal(path))
        except FileNotFoundError:
            continue  # another process tidied up meanwhile
        except (ValueError, TypeError, AttributeError, OverflowError):  # lines that are JSON, and not ours
            run = None
        if run is None or not run.run_id:
            unreadable.append(path)
        else:
            store.put(run, file=path.name, size=size)
            runs += 1
        progress(done, len(fresh))
    return Collected(runs=runs, unreadable=tuple(unreadable))


def remove_old_journals(store: Store, directory: Path, *, before_s: float) -> list[Path]:
    """Delete journals of runs that began before that time, ended, and are in the database as they are now."""
    known = store.known_files()
    old = [
        path for path, size in _files(directory) if known.get(path.name) == (size, True) and _began_s(path) < before_s
    ]
    for path in old:
        path.unlink(missing_ok=True)
    for first in range(0, len(old), 500):
        store.forget_files([path.name for path in old[first : first + 500]])
    return old


def _files(directory: Path) -> Iterator[tuple[Path, int]]:
    """Journals with their sizes, the oldest first. The size is taken first: what is added is read next time."""
    if directory.is_dir():
        for path in sorted(directory.glob("*.jsonl")):
            try:
                yield path, path.stat().st_size
            except FileNotFoundError:
                continue


def _began_s(path: Path) -> float:
    """When its run began, by its name; never, for a name that is not ours."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) / 1000 if found else float("inf")
