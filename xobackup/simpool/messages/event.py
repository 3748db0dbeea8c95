"""event messages."""

from __future__ import annotations

from typing import Any

from xobackup.simpool.events import make_token, old_shape, parse_subscription, wait_for_events
from xobackup.simpool.failures import Failure
from xobackup.simpool.model import class_names
from xobackup.simpool.registry import Call, message

TIMEOUT_MAX_S = 3600.0
"""A client that asks for longer gets an empty answer earlier."""


@message("event.from", locked=False)
def event_from(call: Call, classes: list[str], token: str, timeout: float) -> dict[str, Any]:
    toolstack = call.toolstack
    return wait_for_events(
        call.database,
        parse_subscription(classes, set(call.database.rows) - toolstack.unknown.classes),
        token,
        timeout_s=min(max(timeout, 0.0), TIMEOUT_MAX_S),
        batch_s=toolstack.options.event_batch_s,
        stopped=toolstack.session_ended(call.session),
    )


@message("event.register")
def register(call: Call, classes: list[str]) -> None:
    """Deprecated, as its two companions."""
    parse_subscription(classes, set(call.database.rows))
    call.toolstack.registrations.add(call.session, classes, make_token(call.database))


@message("event.unregister")
def unregister(call: Call, classes: list[str]) -> None:
    call.toolstack.registrations.remove(call.session, classes)


@message("event.next", locked=False)
def event_next(call: Call) -> list[dict[str, Any]]:
    """Waits for the first event, however long that takes."""
    toolstack = call.toolstack
    with call.database.lock:
        wanted, since = toolstack.registrations.of(call.session)
    batch = wait_for_events(
        call.database,
        parse_subscription(wanted, set(call.database.rows) - toolstack.unknown.classes),
        since,
        timeout_s=TIMEOUT_MAX_S,
        batch_s=toolstack.options.event_batch_s,
        stopped=toolstack.session_ended(call.session),
    )
    with call.database.lock:
        toolstack.registrations.told(call.session, batch["token"])
    return [old_shape(event, toolstack.now_text()) for event in batch["events"]]


@message("event.inject")
def inject(call: Call, cls: str, ref: str) -> str:
    known = class_names().get(cls.lower(), cls)
    if not call.database.exists(known, ref):
        raise Failure("HANDLE_INVALID", cls, ref)
    call.database.touch(known, ref)
    return make_token(call.database)


@message("event.get_current_id")
def get_current_id(call: Call) -> int:
    return call.database.generation
