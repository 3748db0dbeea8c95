"""What the service says: lines on standard error, or JSON lines on standard output."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.engine.events import Event


class Lines:
    """What the service says: lines on standard error, or JSON lines on standard output. Thread-safe."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._mutex = threading.Lock()

    def __call__(self, level: str, text: str, **fields: object) -> None:
        moment = datetime.now(UTC)  # noqa: TID251 - a log's time is the machine's
        with self._mutex:
            if self._as_json:
                record = {"kind": "log", "at": moment.isoformat(timespec="seconds"), "level": level, "text": text}
                print(json.dumps(record | fields, ensure_ascii=False), flush=True)  # noqa: T201
                return
            about = fields.get("schedule")
            mark = "" if level == "info" else f"{level}: "
            line = f"{moment:%Y-%m-%dT%H:%M:%SZ} {f'{about}: ' if about else ''}{mark}{text}"
            print(line, file=sys.stderr, flush=True)  # noqa: T201


class EventLines:
    """A journal sink: what a run's events say, as lines of the service."""

    def __init__(self, log: Lines, schedule: str) -> None:
        from xobackup.cli.telling import Teller

        self._teller = Teller()
        self._log = log
        self._schedule = schedule
        self._mutex = threading.Lock()

    def write(self, event: Event) -> None:
        with self._mutex:
            told = self._teller.tell(event)
        if told is not None:
            level = {"red": "error", "yellow": "warning"}.get(told[1] or "", "info")
            self._log(level, told[0], schedule=self._schedule)

    def close(self) -> None:
        """Nothing is held open."""
