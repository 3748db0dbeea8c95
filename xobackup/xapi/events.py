"""What changes on a pool: ``event.from`` as batches, and waiting for one thing to happen.

The first batch holds every matching object as it is, so what already is the case counts as happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.xapi.errors import ProtocolError, WaitTimeout, XapiFailure, clean_text

if TYPE_CHECKING:
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change: ``operation`` is ``add``, ``mod`` or ``del``; no ``record`` in the last case."""

    cls: str
    operation: str
    ref: str
    record: dict[str, Any] | None


class EventFeed:
    """Batches of events of some classes (``"VM"``, ``"VM/OpaqueRef:…"``, ``"*"``); for one thread."""

    def __init__(self, session: Session, classes: Sequence[str]) -> None:
        self._session = session
        self._classes = list(classes)
        self._token = ""

    def next(self, timeout_s: float) -> list[Event]:
        """What changed since the last batch (at first: everything); empty after ``timeout_s`` without news."""
        limit_s = timeout_s + self._session.timeouts.call_s
        try:
            batch = self._session.call("event.from", self._classes, self._token, float(timeout_s), timeout_s=limit_s)
        except XapiFailure as error:
            if error.code not in ("EVENTS_LOST", "EVENT_FROM_TOKEN_PARSE_FAILURE") or not self._token:
                raise
            self._token = ""  # the host forgot where we were: everything again
            return []
        if not isinstance(batch, dict) or not isinstance(batch.get("events"), list):
            raise ProtocolError("event.from", f"expected a batch of events, found {clean_text(repr(batch))[:80]}")
        self._token = str(batch.get("token", ""))
        return [_event(item) for item in batch["events"] if isinstance(item, dict)]


def wait_for(
    session: Session, classes: Sequence[str], predicate: Callable[[Event], bool], timeout_s: float, *, what: str = ""
) -> Event:
    """The first event ``predicate`` accepts; :class:`WaitTimeout` (naming ``what``) if none comes in time."""
    feed = EventFeed(session, classes)
    clock = session.clock
    deadline = clock.monotonic_s() + timeout_s
    while True:
        left_s = max(0.0, deadline - clock.monotonic_s())
        began = clock.monotonic_s()
        events = feed.next(min(left_s, session.timeouts.event_s))
        for event in events:
            if predicate(event):
                return event
        if left_s <= 0:
            raise WaitTimeout(what or f"a change of {', '.join(classes)}", timeout_s)
        if not events and clock.monotonic_s() - began < min(left_s, session.timeouts.poll_s):
            clock.sleep(min(left_s, session.timeouts.poll_s))  # a host that does not wait must not be asked in a loop


def _event(item: dict[str, Any]) -> Event:
    snapshot = item.get("snapshot")
    return Event(
        cls=str(item.get("class", "")).lower(),
        operation=str(item.get("operation", "")),
        ref=str(item.get("ref", "")),
        record=snapshot if isinstance(snapshot, dict) else None,
    )
