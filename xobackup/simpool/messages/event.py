"""event messages."""

from __future__ import annotations

from typing import Any

from xobackup.simpool.events import make_token, parse_subscription, wait_for_events
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
