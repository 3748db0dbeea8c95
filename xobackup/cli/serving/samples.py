"""How full the remotes are, looked at by a thread of its own: a storage that hangs holds up no run and no page."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from xobackup.cli.serving.works import Works

EVERY_S = 3600.0
FIRST_S = 5.0


class Sampler:
    """A context in which the thread lives. :attr:`newest` has the last look at each remote."""

    def __init__(self, works: Works) -> None:
        self._works = works
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, name="samples", daemon=True)
        self.newest: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(1.0)  # it may hang in a storage; it is a daemon

    def _go(self) -> None:
        pause = FIRST_S
        while not self._stop.wait(pause):
            for name in list(self._works.configuration.remotes):
                if self._stop.is_set():
                    return
                self.look(name)
            pause = EVERY_S

    def look(self, name: str) -> None:
        """One remote, now; into the history too, if that can be written."""
        from xobackup.cli.history_store import history_url
        from xobackup.clock import SystemClock
        from xobackup.config.errors import ConfigError
        from xobackup.history.errors import HistoryError
        from xobackup.history.store import open_store

        row: dict[str, Any] = {"at": SystemClock().now_s(), "remote": name, "problem": ""}
        try:
            row |= self._usage(name)
        except Exception as error:  # noqa: BLE001 - whatever a storage does is its problem, which is what is told here
            row["problem"] = f"{error}" or type(error).__name__
        self.newest[name] = row
        try:
            store = open_store(history_url(self._works.configuration))
            try:
                store.put_sample(row)
            finally:
                store.close()
        except (HistoryError, ConfigError, OSError):
            return  # it is told elsewhere; the next look is kept

    def _usage(self, name: str) -> dict[str, int | None]:
        from xobackup.cli.jobs import remote_target
        from xobackup.cli.repositories import opened

        with opened(remote_target(self._works.configuration, name)) as repository:
            usage = repository.usage()
        if usage is None:
            return {"used_bytes": None, "free_bytes": None, "total_bytes": None}
        used = usage.total_bytes - usage.free_bytes
        return {"used_bytes": used, "free_bytes": usage.free_bytes, "total_bytes": usage.total_bytes}
