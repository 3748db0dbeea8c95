"""Who did what over the page or the API: a line per deed, on disk before it is done."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

NAME = "audit.jsonl"
LINES_SHOWN = 200
TAIL_BYTES = 256 * 1024


class Audit:
    """Appends to ``audit.jsonl`` in the state directory. Thread-safe. ``now_s``: Unix seconds."""

    def __init__(self, directory: Path, now_s: Callable[[], float]) -> None:
        self._path = directory / NAME
        self._now_s = now_s
        self._mutex = threading.Lock()

    def note(self, who: str, address: str, deed: str, about: str = "", *, ok: bool = True) -> None:
        """Raises ``OSError`` when it cannot be written: then it must not be done either."""
        record = {
            "at_s": round(self._now_s(), 3),
            "who": who,
            "from": address,
            "deed": deed,
            "about": about,
            "ok": ok,
        }
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        with self._mutex:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)
                os.fsync(fd)
            finally:
                os.close(fd)

    def newest(self) -> list[dict[str, object]]:
        """The last deeds, the newest first; torn lines are left out."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for line in reversed(lines[-LINES_SHOWN - 1 :]):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found
