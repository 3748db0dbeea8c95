"""``event.from``: what changed since a token, waiting for it if need be.

A token is two generations: of the database and of messages. For an object created after the token there is one
``add`` with its latest record, for one modified since one ``mod``, for one gone one ``del``; what came and went in
between is not mentioned. Order is that of the changes.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.simpool.database import copy_record
from xobackup.simpool.failures import Failure
from xobackup.simpool.model import class_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.database import Database

SILENT = frozenset({"session", "role", "user", "subject", "blob"})
"""Tables without events."""
_TOKEN = re.compile(r"(\d{20}),(\d{20})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Classes watched as a whole and single objects."""

    classes: frozenset[str]
    objects: frozenset[tuple[str, str]]

    def wants(self, cls: str, ref: str) -> bool:
        return cls in self.classes or (cls, ref) in self.objects

    def tables(self) -> set[str]:
        return {*self.classes, *(cls for cls, _ in self.objects)}


def parse_subscription(wanted: list[str], known: set[str]) -> Subscription:
    """Raises ``EVENT_SUBSCRIPTION_PARSE_FAILURE`` for an unknown class."""
    classes: set[str] = set()
    objects: set[tuple[str, str]] = set()
    for text in wanted:
        if text == "*":
            classes |= known - SILENT
            continue
        name, slash, ref = text.partition("/")
        cls = class_names().get(name.lower())
        if cls is None:
            raise Failure("EVENT_SUBSCRIPTION_PARSE_FAILURE", text)
        if cls not in known or cls in SILENT:
            continue
        if slash:
            objects.add((cls, ref))
        else:
            classes.add(cls)
    return Subscription(classes=frozenset(classes), objects=frozenset(objects))


def parse_token(text: str) -> tuple[int, int]:
    """Generations of the database and of messages. Raises ``EVENT_FROM_TOKEN_PARSE_FAILURE``."""
    if not text:
        return 0, 0
    found = _TOKEN.fullmatch(text)
    if not found:
        raise Failure("EVENT_FROM_TOKEN_PARSE_FAILURE", text)
    return int(found[1]), int(found[2])


def make_token(database: Database) -> str:
    return f"{database.generation:020d},{database.newest['message']:020d}"


def changes_since(database: Database, wanted: Subscription, token: tuple[int, int]) -> list[dict[str, Any]]:
    """Events after ``token``, in the order of the changes. To be called under the database's lock."""
    found: list[tuple[int, dict[str, Any]]] = []
    for cls in wanted.tables():
        since = token[1] if cls == "message" else token[0]
        if database.newest[cls] <= since:
            continue
        for ref, row in database.rows[cls].items():
            if row.modified > since and wanted.wants(cls, ref):
                operation = "add" if row.created > since else "mod"
                found.append((row.modified, _event(cls, ref, operation, row.modified, row.record)))
    for gone in database.deletions:
        since = token[1] if gone.cls == "message" else token[0]
        if gone.deleted > since >= gone.created and wanted.wants(gone.cls, gone.ref):
            found.append((gone.deleted, _event(gone.cls, gone.ref, "del", gone.deleted, None)))
    found.sort(key=lambda pair: pair[0])
    return [event for _, event in found]


def _event(cls: str, ref: str, operation: str, generation: int, record: dict[str, Any] | None) -> dict[str, Any]:
    event: dict[str, Any] = {
        "id": "0" if cls == "message" else str(generation),
        "timestamp": "0.0",
        "class": cls.lower(),
        "operation": operation,
        "ref": ref,
    }
    if record is not None:
        event["snapshot"] = copy_record(record)
    return event


def wait_for_events(
    database: Database,
    wanted: Subscription,
    token_text: str,
    *,
    timeout_s: float,
    batch_s: float,
    stopped: Callable[[], Failure | None],
) -> dict[str, Any]:
    """The answer of ``event.from``: at once when something happened, else when it does or at the timeout.

    ``stopped`` is asked while waiting; a failure it returns ends the wait (session gone, pool closing).
    """
    token = parse_token(token_text)
    events: list[dict[str, Any]] = []

    def ready() -> bool:
        nonlocal events
        if stopped() is not None:
            return True
        events = changes_since(database, wanted, token)
        return bool(events)

    with database.lock:
        if not ready():
            database.wait(ready, timeout_s)
            if events and batch_s > 0:
                _let_burst_end(database, batch_s)
                events = changes_since(database, wanted, token)
        failure = stopped()
        if failure is not None:
            raise failure
        counts = {cls.lower(): len(rows) for cls, rows in database.rows.items() if cls not in SILENT}
        return {"events": events, "valid_ref_counts": counts, "token": make_token(database)}


class Registrations:
    """The old way: a session says once what it watches, and each ``event.next`` waits for what is new since."""

    def __init__(self) -> None:
        self._watched: dict[str, tuple[frozenset[str], str]] = {}
        """Session -> (what it watches as it spelt it, token of what it has been told)."""

    def add(self, session: str, wanted: list[str], token: str) -> None:
        before, since = self._watched.get(session, (frozenset(), token))
        self._watched[session] = (before | set(wanted), since)

    def remove(self, session: str, wanted: list[str]) -> None:
        before, since = self._watched.get(session, (frozenset(), ""))
        self._watched[session] = (before - {one for one in before if one.lower() in _lowered(wanted)}, since)

    def of(self, session: str) -> tuple[list[str], str]:
        """Raises ``SESSION_NOT_REGISTERED``."""
        wanted, since = self._watched.get(session, (frozenset[str](), ""))
        if not wanted:
            raise Failure("SESSION_NOT_REGISTERED", session)
        return sorted(wanted), since

    def told(self, session: str, token: str) -> None:
        self._watched[session] = (self._watched[session][0], token)


def _lowered(words: list[str]) -> set[str]:
    return {word.lower() for word in words}


def old_shape(event: dict[str, Any], now: str) -> dict[str, Any]:
    """An event as ``event.next`` gives it: a number, a date, and the object's uuid."""
    snapshot = event.get("snapshot", {})
    return {**event, "id": int(event["id"]), "timestamp": now, "obj_uuid": str(snapshot.get("uuid", ""))}


def _let_burst_end(database: Database, batch_s: float) -> None:
    """Release the lock for a moment so that changes made together are reported together."""
    deadline = time.monotonic() + batch_s
    while (left := deadline - time.monotonic()) > 0:
        database.changed.wait(left)
