"""How full the remotes are, looked at from time to time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xobackup.cli.serving.duties import Duty

if TYPE_CHECKING:
    from xobackup.cli.serving.works import Works

EVERY_S = 3600.0
FIRST_S = 5.0


class Sampler:
    """:attr:`newest` has the last look at each remote."""

    def __init__(self, works: Works) -> None:
        self._works = works
        self.newest: dict[str, dict[str, Any]] = {}
        self.duty = Duty("samples", self._look_at_all, every_s=EVERY_S, first_s=FIRST_S)

    def _look_at_all(self) -> None:
        for name in list(self._works.configuration.remotes):
            if self.duty.over:
                return
            self.look(name)

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
