"""Tasks: what asynchronous calls and transfers report through.

``pending`` ends in ``success``, ``failure`` or ``cancelled``, once. A finished task has progress 1; its result is
the value as XML-RPC text. Cancelling only asks; destroying a pending task takes effect when it ends.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xobackup.simpool.failures import Failure
from xobackup.simpool.values import EPOCH, NULL, date_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xobackup.clock import Clock
    from xobackup.simpool.database import Database

TASKS_MAX = 200
FINISHED_KEPT_S = 3900
PENDING_KEPT_S = 86_400
STUCK_S = 0.5
"""After its task was cancelled, before a connection that nobody reads is broken."""
PENDING = frozenset({"pending", "cancelling"})


class Tasks:
    """The tasks of one pool; their records live in the database."""

    def __init__(self, database: Database, clock: Clock, *, vanishes: Callable[[str], bool]) -> None:
        self._database = database
        self._clock = clock
        self._vanishes = vanishes
        self._destroy_at_end: set[str] = set()
        self._finished_at: dict[str, float] = {}
        self._created_at: dict[str, float] = {}
        """Of those that have not ended."""
        self._waking: dict[str, Callable[[], None]] = {}
        self._clients: set[str] = set()
        """Made by clients, for transfers."""

    def create(self, label: str, description: str = "", *, subtask_of: str = NULL) -> str:
        with self._database.lock:
            self._collect()
            now = self._clock.now_s()
            ref = self._database.create(
                "task",
                {
                    "subtask_of": subtask_of,
                    "name_label": label,
                    "name_description": description,
                    "created": date_text(now),
                    "finished": EPOCH,
                    "status": "pending",
                    "type": "<none/>",
                    "allowed_operations": ["cancel"],
                    "resident_on": next(iter(self._database.rows["host"]), NULL),
                },
            )
            self._created_at[ref] = now
            return ref

    def create_for_client(self, label: str, description: str) -> str:
        """A task that nobody works for unless a transfer adopts it."""
        with self._database.lock:
            ref = self.create(label, description)
            self._clients.add(ref)
            return ref

    def restarted(self) -> None:
        """The toolstack begins anew: nobody works any longer for the tasks of clients."""
        with self._database.lock:
            for ref in list(self._clients):
                self.fail(ref, Failure("TASK_CANCELLED", ref))

    def pending(self, ref: str) -> bool:
        return self._database.exists("task", ref) and self._database.get("task", ref)["status"] in PENDING

    def cancelling(self, ref: str) -> bool:
        with self._database.lock:
            return self._database.exists("task", ref) and self._database.get("task", ref)["status"] == "cancelling"

    def progress(self, ref: str, fraction: float) -> None:
        with self._database.lock:
            if self.pending(ref):
                self._database.update("task", ref, progress=fraction)

    def succeed(self, ref: str, result: str) -> None:
        """End with ``result``, an XML-RPC value as text."""
        self._finish(ref, status="success", result=result, error_info=[])

    def fail(self, ref: str, failure: Failure) -> None:
        cancelled = failure.code == "TASK_CANCELLED"
        status = "cancelled" if cancelled else "failure"
        self._finish(ref, status=status, result="", error_info=failure.details)

    def cancel(self, ref: str) -> None:
        """Ask whoever works for the task to stop."""
        with self._database.lock:
            self._database.get("task", ref)
            if not self.pending(ref):
                return
            self._database.update("task", ref, status="cancelling", allowed_operations=[])
            wake = self._waking.get(ref)
        if wake is not None:
            timer = threading.Timer(STUCK_S, wake)
            timer.daemon = True
            timer.start()

    @contextmanager
    def woken(self, ref: str, wake: Callable[[], None]) -> Iterator[None]:
        """Whoever works for the task within may be stuck in a connection: ``wake`` breaks it, a little after the task
        was cancelled."""
        self._waking[ref] = wake
        try:
            yield
        finally:
            self._waking.pop(ref, None)

    def destroy(self, ref: str) -> None:
        with self._database.lock:
            self._database.get("task", ref)
            if self.pending(ref):
                self._destroy_at_end.add(ref)
            else:
                self._database.destroy("task", ref)
                self._finished_at.pop(ref, None)

    def set_status(self, ref: str, status: str) -> None:
        """What a client may do to a task it created itself."""
        if status in PENDING:
            self._database.update("task", ref, status=status)
            return
        with self._database.lock:
            record = self._database.get("task", ref)
            self._finish(ref, status=status, result=record["result"], error_info=record["error_info"])

    def _finish(self, ref: str, *, status: str, result: str, error_info: list[str]) -> None:
        with self._database.lock:
            if not self.pending(ref):
                return
            now = self._clock.now_s()
            self._database.update(
                "task",
                ref,
                status=status,
                result=result,
                error_info=error_info,
                progress=1.0,
                finished=date_text(now),
                allowed_operations=[],
            )
            self._created_at.pop(ref, None)
            self._clients.discard(ref)
            self._finished_at[ref] = now
            if self._vanishes(self._database.get("task", ref)["name_label"]):
                self._destroy_at_end.add(ref)
            if ref in self._destroy_at_end:
                self._destroy_at_end.discard(ref)
                self._database.destroy("task", ref)
                self._finished_at.pop(ref, None)

    def _collect(self) -> None:
        """Drop finished tasks that are too old or too many, and those that nobody ended for a day."""
        now = self._clock.now_s()
        for ref in [ref for ref, at_s in self._created_at.items() if now - at_s > PENDING_KEPT_S]:
            self._created_at.pop(ref)
            self._clients.discard(ref)
            if self._database.exists("task", ref):
                self._database.destroy("task", ref)
        excess = len(self._database.rows["task"]) - TASKS_MAX + 1
        for ref, at_s in sorted(self._finished_at.items(), key=lambda pair: pair[1]):
            if now - at_s <= FINISHED_KEPT_S and excess <= 0:
                return
            excess -= 1
            self._finished_at.pop(ref)
            if self._database.exists("task", ref):
                self._database.destroy("task", ref)
