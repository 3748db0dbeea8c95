"""People are told: every minute, and at once when a run has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.cli.notifying import notify_all
from xobackup.cli.serving.duties import Duty

if TYPE_CHECKING:
    from xobackup.cli.logs import Lines
    from xobackup.cli.serving.works import Works

EVERY_S = 60.0


class Notices:
    """Tells what is wrong with runs, and with the service itself."""

    def __init__(self, works: Works, log: Lines) -> None:
        self._works, self._log = works, log
        self._told = ""
        self.duty = Duty("notices", self._look, every_s=EVERY_S)

    def _look(self) -> None:
        complaints: list[str] = []
        notify_all(self._works.configuration, complaints.append, self._works.troubles)
        told = "; ".join(complaints)
        if told and told != self._told:  # once, not every minute
            self._log("warning", told)
        self._told = told
