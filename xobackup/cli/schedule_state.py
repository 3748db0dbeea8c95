"""What is remembered of schedules, for those who are no service: from the state directory, or from the engine's
database where control nodes share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from xobackup.cli.engine_store import opened_board, shares_schedules

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.service.store import Look


def look_at_schedules(configuration: Configuration) -> Look:
    """All of it, now. Raises ``StateUnreadable``, ``WorkersError``."""
    from xobackup.clock import SystemClock, utc
    from xobackup.service.shared import look_at_shared
    from xobackup.service.state import look_at_state, read_paused
    from xobackup.service.store import Look

    if shares_schedules(configuration):
        with opened_board(configuration) as board:
            return look_at_shared(board)
    directory = configuration.state_directory
    now = utc(SystemClock().now_s())
    return Look(now=now, state=look_at_state(directory), paused=read_paused(directory))


def change_paused_schedules(configuration: Configuration, names: Mapping[str, str | None]) -> Mapping[str, str]:
    """Pause (a reason) or resume (``None``); what is paused then. Raises as :func:`look_at_schedules`."""
    from xobackup.service.shared import change_paused_shared
    from xobackup.service.state import change_paused

    if shares_schedules(configuration):
        with opened_board(configuration) as board:
            return change_paused_shared(board, names)
    return change_paused(configuration.state_directory, names)
