"""When a digest is due, and what each channel was sent, in one small file. A crash between sending and noting sends
it twice rather than never; over restarts, changes of summer time and a clock that jumps it is sent once per period.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path

from schedules.calendar import Calendar
from xobackup.service.state import write_whole

NAME = "digests.json"
FAR = timedelta(days=15)
"""Further back nobody looks: of several that were missed the newest is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """``nominal``: the time that a digest stands for, to be noted; ``send``: now, or only noted (a channel that is
    new begins with the next one)."""

    nominal: datetime
    send: bool
    since: datetime
    """From where on it tells."""


def due(calendar: Calendar, settled: datetime | None, now: datetime) -> Due | None:
    """Whether there is one to send or to note."""
    past = list(takewhile(lambda fire: fire.nominal <= now, calendar.after(now - FAR)))
    last = past[-1].nominal if past else now
    if settled is None or settled > now + timedelta(hours=1):  # or the clock was wrong then
        return Due(nominal=last, send=False, since=last)
    if last <= settled:
        return None
    return Due(nominal=last, send=True, since=max(settled, now - FAR))


def read_settled(directory: Path) -> dict[str, datetime] | None:
    """By channel; ``None`` when there is no telling: the file is damaged."""
    try:
        value = json.loads((directory / NAME).read_bytes())
        found = {str(name): datetime.fromisoformat(moment) for name, moment in value.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        return None
    return None if any(moment.tzinfo is None for moment in found.values()) else found


def write_settled(directory: Path, settled: Mapping[str, datetime]) -> None:
    write_whole(directory / NAME, {name: moment.isoformat() for name, moment in sorted(settled.items())})
