"""Asynchronous calls: start a task, watch it, take its result, leave nothing behind.

A task that is gone before its end was seen means *outcome unknown*, never success. The watch uses ``event.from`` on
the one task and falls back to looking at its record where a host does not offer that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.xapi.errors import (
    HostIsSlave,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    ProtocolError,
    SessionInvalid,
    TaskTimeout,
    XapiError,
    XapiFailure,
)
from xobackup.xapi.failures import failure, from_error_info
from xobackup.xapi.values import decode_result, is_null

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

CUT_OFF = "the pool's toolstack restarted in the middle, or its master changed: run again"
_ENDED = frozenset({"success", "failure", "cancelled"})
_NO_EVENTS = frozenset({"EVENT_SUBSCRIPTION_PARSE_FAILURE", "EVENT_FROM_TOKEN_PARSE_FAILURE", "EVENTS_LOST"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """A task as last seen."""

    task: str
    status: str
    progress: float
    result: Any
    error_info: Any

    @property
    def ended(self) -> bool:
        return self.status in _ENDED

    def failure(self, method: str) -> XapiFailure | None:
        """Why it failed, ``None`` if it did not."""
        if self.status == "failure":
            failed = from_error_info(self.error_info, method=method)
            if isinstance(failed, (HostIsSlave, SessionInvalid)):
                failed.hint = CUT_OFF  # of a call it is dealt with; a task is not repeated
            return failed
        if self.status == "cancelled":
            return failure("TASK_CANCELLED", [self.task], method=method)
        return None


def run(
    session: Session,
    method: str,
    args: Sequence[Any],
    *,
    timeout_s: float | None = None,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Any:
    """``Async.<method>``: returns the task's decoded result, raises its failure. See :meth:`Session.call_async`."""
    task = _start(session, method, args)
    limit_s = session.timeouts.task_s if timeout_s is None else timeout_s
    try:
        state = follow(session, task, what=method, timeout_s=limit_s, progress=progress, should_stop=should_stop)
        overdue = not state.ended
        stopped = overdue and should_stop is not None and should_stop()
        if overdue:
            state = cancel(session, task, what=method)
    except XapiError:
        raise
    except BaseException:  # KeyboardInterrupt and the like: nobody will wait for it any more
        with contextlib.suppress(XapiError):
            session.call_once("task.cancel", task)
        raise
    finally:
        destroy(session, task)
    if state.status == "success":
        return decode_result(state.result)
    if overdue and not stopped and state.status != "failure":
        raise TaskTimeout(method, task, limit_s, outcome_unknown=not state.ended)
    failed = state.failure(method) or failure("TASK_CANCELLED", [task], method=method)
    failed.outcome_unknown = not state.ended
    raise failed


def follow(
    session: Session,
    task: str,
    *,
    what: str,
    timeout_s: float,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TaskState:
    """Wait until the task has ended, the time is over or ``should_stop`` says so; returns it as last seen."""
    watch = _Watch(session, task, what)
    deadline = session.clock.monotonic_s() + timeout_s
    step_s = session.timeouts.poll_s if should_stop is not None else session.timeouts.event_s
    while True:
        left_s = deadline - session.clock.monotonic_s()
        state = watch.next(max(0.0, min(step_s, left_s)))
        if progress is not None:
            progress(state.progress)
        if state.ended or left_s <= 0 or (should_stop is not None and should_stop()):
            return state


def look(session: Session, task: str, *, what: str) -> TaskState:
    """The task now; :class:`OutcomeUnknown` if it is gone."""
    try:
        record = session.record("task", task)
    except NotFound as error:
        raise OutcomeUnknown(what, task) from error
    return _state(task, record)


def cancel(session: Session, task: str, *, what: str) -> TaskState:
    """Ask for its end and wait for it, a little; returns it as last seen (it may have succeeded meanwhile)."""
    with contextlib.suppress(XapiFailure):  # not cancellable, or just ended
        session.call_once("task.cancel", task)
    return follow(session, task, what=what, timeout_s=session.timeouts.cancel_s)


def destroy(session: Session, task: str) -> None:
    """Remove a task's record. XAPI drops old ones by itself, so a failure here changes nothing."""
    with contextlib.suppress(XapiError):
        session.call_once("task.destroy", task)


def discard(session: Session, task: str, *, adopted: bool) -> None:
    """End and remove the task of a transfer that failed, as far as the pool answers; never raises for the pool.

    A task that no handler ``adopted`` has nobody who would end it, so it is told that it has.
    """
    with contextlib.suppress(XapiError):
        state = _state(task, session.call_once("task.get_record", task))
        if not state.ended and adopted:
            state = cancel(session, task, what="transfer")
        if not state.ended:
            session.call_once("task.set_status", task, "cancelled")
        session.call_once("task.destroy", task)


def _start(session: Session, method: str, args: Sequence[Any]) -> str:
    task = session.call(f"Async.{method}", *args, patient=False)  # the whole is waited for, by who asks for it
    if is_null(task):
        raise ProtocolError(f"Async.{method}", f"expected a task, found {task!r}")
    return str(task)


class _Watch:
    """One task's states, by events if the host has them for it."""

    def __init__(self, session: Session, task: str, what: str) -> None:
        self._session = session
        self._task = task
        self._what = what
        self._token = ""
        self._events = True
        self._seen = False

    def next(self, wait_s: float) -> TaskState:
        """The next state, at the latest after ``wait_s`` the present one."""
        began = self._session.clock.monotonic_s()
        state = self._by_event(wait_s) if self._events else None
        if state is None:
            left_s = wait_s - (self._session.clock.monotonic_s() - began)
            if self._seen and left_s > 0:  # no news though time is left: the host does not wait, so we do
                self._session.clock.sleep(min(left_s, self._session.timeouts.poll_s))
            state = look(self._session, self._task, what=self._what)
        self._seen = True
        return state

    def _by_event(self, wait_s: float) -> TaskState | None:
        limit_s = wait_s + self._session.timeouts.call_s
        # the first question is answered at once when the task exists, and must not wait when it does not
        asked_s = wait_s if self._seen else min(wait_s, 0.1)
        try:
            batch = self._session.call(
                "event.from", [f"task/{self._task}"], self._token, float(asked_s), timeout_s=limit_s
            )
        except XapiFailure as error:
            if error.code in _NO_EVENTS or isinstance(error, NotSupported):
                self._events = False
                return None
            raise
        if not isinstance(batch, dict) or not isinstance(batch.get("events"), list):
            raise ProtocolError("event.from", "expected a batch of events")
        self._token = str(batch.get("token", ""))
        state = None
        for event in batch["events"]:
            if not isinstance(event, dict) or event.get("ref") != self._task:
                continue
            if event.get("operation") == "del":
                raise OutcomeUnknown(self._what, self._task)
            if isinstance(event.get("snapshot"), dict):
                state = _state(self._task, event["snapshot"])
        return state


def _state(task: str, record: Any) -> TaskState:
    if not isinstance(record, dict):
        raise ProtocolError("task.get_record", f"expected a record, found {type(record).__name__}")
    progress = record.get("progress", 0.0)
    usable = isinstance(progress, int | float) and 0 <= progress <= 1
    return TaskState(
        task=task,
        status=str(record.get("status", "pending")),
        progress=float(progress) if usable else 0.0,
        result=record.get("result"),
        error_info=record.get("error_info"),
    )
