"""What happened, as data, written as it happens.

A :class:`Sink` takes the events of :mod:`xobackup.engine.events`. :class:`JsonLinesJournal` keeps one
file per run: a line per event, fsynced when a phase or a run ends. The file is locked while its run lives, so that
after a crash the next start knows whose run is over and closes it as *interrupted*. A journal is never needed to
restore.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from xobackup.clock import Clock
from xobackup.engine.events import Event, RunEnded, RunInterrupted, RunStarted, as_record, from_record

FIRST_LINE_MAX = 1 << 20


class Sink(Protocol):
    """Takes events, from several threads."""

    def write(self, event: Event) -> None: ...

    def close(self) -> None: ...


class MemoryJournal:
    """Keeps events in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.Lock()

    def write(self, event: Event) -> None:
        with self._lock:
            self.events.append(event)

    def close(self) -> None:
        """Nothing to do."""

    def of(self, kind: type[Event]) -> list[Any]:
        """Events of one class, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class Tee:
    """One journal for several sinks."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def write(self, event: Event) -> None:
        for sink in self._sinks:
            sink.write(event)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


class JsonLinesJournal:
    """One run's file; locked until :meth:`close`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def write(self, event: Event) -> None:
        line = json.dumps(as_record(event, self._clock.now_s()), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            if self._fd < 0:
                return
            os.write(self._fd, line)
            if event.durable:
                os.fsync(self._fd)

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def journal_path(directory: Path, run_id: str, clock: Clock) -> Path:
    """Where a new run's journal goes; names sort by time."""
    return directory / f"{int(clock.now_s() * 1000):013d}-{run_id}.jsonl"


def read_journal(path: Path) -> list[dict[str, Any]]:
    """A run's records; a last line torn by a crash is left out."""
    records: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def schedule_of(directory: Path, run_id: str) -> str:
    """Whose settings a run had, as its journal begins; ``""``: the job's own, or nobody knows any more."""
    for path in _journals(directory):
        if path.stem.partition("-")[2] != run_id:
            continue
        with path.open("rb") as file, suppress(ValueError):
            record = json.loads(file.readline(FIRST_LINE_MAX))
            if isinstance(record, dict) and record.get("kind") == RunStarted.kind:
                return str(record.get("schedule") or "")
    return ""


LastWords = Callable[[str], AbstractContextManager[Sequence[Mapping[str, Any]]]]
""":meth:`xobackup.engine.handing.HandOut.last_words`."""


def close_interrupted(directory: Path, clock: Clock, last: LastWords | None = None) -> list[str]:
    """Write *interrupted* into every journal whose run is over without having said so; return their run ids.

    A journal that somebody still holds belongs to a living run and is left alone. ``last``: what else is known of a
    run; it is in the journal when its block ends.
    """
    closed: list[str] = []
    for path in _journals(directory):
        with path.open("r+b") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            records = read_journal(path)
            if any(record.get("kind") in (RunEnded.kind, RunInterrupted.kind) for record in records):
                continue
            run_id = next(
                (str(r["run_id"]) for r in records if r.get("kind") == RunStarted.kind and "run_id" in r), ""
            )
            event = RunInterrupted(run_id=run_id, reason="the process ended without closing its journal")
            with (last or _nothing)(run_id) as words:
                said = [*_unwritten(words, records), event]
                lines = [json.dumps(as_record(one, clock.now_s())).encode() for one in said]
                _append_whole_line(file.fileno(), b"\n".join(lines))
            closed.append(run_id)
    return closed


@contextmanager
def _nothing(_run_id: str) -> Iterator[Sequence[Mapping[str, Any]]]:
    yield ()


def _unwritten(words: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    """Those that are not in the journal: whoever died may have written the first of them."""
    known = Counter(_told(record) for record in records)
    for word in words:
        event = from_record(word)
        if event is None:
            continue
        told = _told(as_record(event, 0.0))
        if known[told]:
            known[told] -= 1
        else:
            yield event


def _told(record: Mapping[str, Any]) -> str:
    """What a record says, but for when."""
    return json.dumps({name: value for name, value in record.items() if name != "at_s"}, sort_keys=True)


def _append_whole_line(fd: int, line: bytes) -> None:
    size = os.lseek(fd, 0, os.SEEK_END)
    torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
    os.write(fd, (b"\n" if torn else b"") + line + b"\n")
    os.fsync(fd)


def _journals(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        yield from sorted(directory.glob("*.jsonl"))
