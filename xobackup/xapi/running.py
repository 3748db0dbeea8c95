"""A transfer on its way: one connection, one task, and how to end both, well or badly."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from xobackup.xapi import task as tasks
from xobackup.xapi.errors import AnswerTimeout, TransferBroken, TransferCancelled, XapiError
from xobackup.xapi.handler import Handler
from xobackup.xapi.http11 import Connection

Throttle = Callable[[int], None]

INNER_MARK = b"HTTP/"
"""What a body begins with, or goes on with, when XAPI failed after its 200."""
_INNER_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Running:
    """What an export and an import have in common: a connection, a task, a way to stop both."""

    def __init__(self, handler: Handler, task: str, connection: Connection, throttle: Throttle | None) -> None:
        self.handler = handler
        self.task = task
        self.connection = connection
        self.throttle = throttle
        self.cancelled = threading.Event()
        self.bytes_done = 0
        self.ended = False

    def cancel(self) -> None:
        self.cancelled.set()
        self.connection.shut()

    def broken(self, error: XapiError) -> XapiError:
        """What to raise instead of a broken connection: the task's failure if it has one."""
        self.connection.close()
        if self.cancelled.is_set():
            return TransferCancelled(self.handler.what)
        if isinstance(error, AnswerTimeout):
            self.handler.session.fell_silent()
        failed = self.handler.task_failure(self.task)
        if failed is not None:
            return failed
        return TransferBroken(self.handler.what, f"{error} (after {self.bytes_done} bytes)", transient=True)

    def cause_of(self, error: Exception) -> XapiError | None:
        """What made a reader stumble, if it was the pool: its task has failed by now, or the connection was cut."""
        connection = self.connection
        failed = self.handler.task_failure(self.task, wait_s=None if connection.ended else 0.0)
        if failed is not None and not failed.outcome_unknown:
            return failed
        if connection.ragged:
            problem = f"the connection was cut after {self.bytes_done} bytes: {error}"
            return TransferBroken(self.handler.what, problem, transient=True)
        return None

    def refused_inside(self, body: bytes) -> XapiError:
        """The error for a second answer found in the body."""
        inner = _INNER_STATUS.match(body)
        words = body.partition(b"\r\n\r\n")[2] or body
        return self.handler.refusal(int(inner.group(1)) if inner else 500, words, task=self.task)

    def settle(self) -> tasks.TaskState:
        """Wait for the task's end; raises unless it succeeded. Destroys the task."""
        session, what = self.handler.session, self.handler.what
        limit_s = session.timeouts.task_end_s
        state = tasks.follow(session, self.task, what=what, timeout_s=limit_s, should_stop=self.cancelled.is_set)
        failed = state.failure(what)
        if failed is not None:
            raise failed
        if not state.ended and self.cancelled.is_set():
            raise TransferCancelled(what)
        if not state.ended:
            problem = f"all bytes went over, but the task {self.task} did not end within {limit_s:g} s"
            error = TransferBroken(what, problem)
            error.outcome_unknown = True
            raise error
        self.ended = True
        tasks.destroy(session, self.task)
        return state

    def abort(self) -> None:
        """Break the connection and end the task, as far as the pool can be reached."""
        self.connection.close()
        if self.ended:
            return
        self.ended = True
        tasks.discard(self.handler.session, self.task, adopted=True)
