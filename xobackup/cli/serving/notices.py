"""The service tells: a thread of its own, so that an address that hangs holds up nothing else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from xobackup.cli.notifying import notify_all

if TYPE_CHECKING:
    from types import TracebackType

    from xobackup.cli.serving.log import Lines
    from xobackup.cli.serving.works import Works

EVERY_S = 60.0


class Notices:
    """A context in which the thread lives. It looks every minute, and at once when a run has ended."""

    def __init__(self, works: Works, log: Lines) -> None:
        self._works, self._log = works, log
        self._stop = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._go, name="notices", daemon=True)

    def __enter__(self) -> Notices:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._works.ended.set()
        self._thread.join(1.0)  # it may hang in somebody's server; it is a daemon

    def _go(self) -> None:
        while not self._stop.is_set():
            self._works.ended.wait(EVERY_S)
            self._works.ended.clear()
            if self._stop.is_set():
                return
            complaints: list[str] = []
            works = self._works
            notify_all(works.configuration, complaints.append, {"configuration": works.not_followed})
            told = "; ".join(complaints)
            if told and told != self._told:  # once, not every minute
                self._log("warning", told)
            self._told = told
