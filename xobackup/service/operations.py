"""What people order besides schedules: restores, verifications, tests, and looks at what these would do.

Each is a file in the state directory from before it begins, so that nothing that was ordered disappears: what an
earlier process left is found as *interrupted*, and is told, never begun again by itself. *Work* goes one at a time
(or as many as configured), *looks* have a lane of their own, so that a plan need not wait for a restore.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from xobackup.clock import Clock, utc
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import EngineError
from xobackup.engine.progress import Progress
from xobackup.service.state import write_whole

DIRECTORY = "operations"
KEPT = 300
"""So many files; the oldest that have ended go."""
WAITING_MAX = 50
LOOKS_MAX = 2
SAID_MAX = 200
HURRY_STEP_S = 0.25
LEFT = "the service ended before it did; what it had begun is not gone on with"
LEFT_HINT = "order it again; what it left on a pool is removed by the next run or command that works there"


class Lane(StrEnum):
    """Whose turn it is is decided in each alone."""

    LOOK = "look"
    WORK = "work"


class State(StrEnum):
    """Of an operation."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


OPEN = (State.WAITING, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One of them. Times are Unix seconds; ``asked``: with which settings; ``result``: what came out, by kind."""

    id: str
    kind: str
    lane: Lane
    about: str
    who: str
    asked: Mapping[str, Any]
    ordered_at: float
    began_at: float | None = None
    ended_at: float | None = None
    state: State = State.WAITING
    result: Mapping[str, Any] | None = None
    problem: str = ""
    hint: str = ""
    said: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state not in OPEN

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one ended."""

    state: State
    result: Mapping[str, Any] | None = None
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """What the one who performs it takes along."""

    progress: Progress
    cancel: CancelToken = field(default_factory=CancelToken)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=SAID_MAX))
    """What was said of it, the last of it if it was much."""

    def say(self, text: str) -> None:
        self.lines.append(text)


Perform = Callable[[Operation, Hand], Ending]
"""Does it; the errors that it foresees are its own affair to tell."""


class TooMany(EngineError):
    """The queue is full."""


class OrderedAlready(EngineError):
    """The same waits or goes on."""

    def __init__(self, other: Operation) -> None:
        self.other = other
        super().__init__(f"the same was ordered already, by {other.who or 'somebody'}, and has not ended")


class Operations:
    """See the module's head. Thread-safe. ``ended`` is told of each that has ended, in its thread."""

    def __init__(
        self,
        directory: Path,
        perform: Perform,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        work_max: int = 1,
        ended: Callable[[Operation], None] = lambda _operation: None,
    ) -> None:
        self._directory = directory / DIRECTORY
        self._directory.mkdir(parents=True, exist_ok=True)
        self._perform, self._clock, self._new_id, self._told = perform, clock, new_id, ended
        self._most = {Lane.LOOK: LOOKS_MAX, Lane.WORK: work_max}
        self._changed = threading.Condition()
        self._known: dict[str, Operation] = {}
        self._hands: dict[str, Hand] = {}
        self._stopping = ""
        self.interrupted: list[Operation] = []
        """What an earlier process left."""
        self._read()

    def newest(self, limit: int = 100) -> list[Operation]:
        """The newest first."""
        with self._changed:
            found = sorted(self._known.values(), key=lambda one: (one.ordered_at, one.id), reverse=True)
        return [self._with_said(one) for one in found[:limit]]

    def get(self, operation_id: str) -> Operation | None:
        with self._changed:
            found = self._known.get(operation_id)
        return None if found is None else self._with_said(found)

    def progress(self, operation_id: str) -> Progress | None:
        """The meters of one that goes on."""
        hand = self._hands.get(operation_id)
        return None if hand is None else hand.progress

    def order(self, kind: str, lane: Lane, asked: Mapping[str, Any], *, about: str, who: str) -> Operation:
        """Take an order: in its file when this returns. Raises ``TooMany``, ``OrderedAlready``, ``OSError``."""
        with self._changed:
            open_ones = [one for one in self._known.values() if not one.ended]
            for one in open_ones:
                if (one.kind, one.asked) == (kind, asked):
                    raise OrderedAlready(one)
            if self._stopping or len(open_ones) >= WAITING_MAX:
                raise TooMany(self._stopping or f"{len(open_ones)} operations wait already")
            now_s = self._clock.now_s()
            made = Operation(
                id=f"{utc(now_s):%Y%m%dT%H%M%SZ}-{self._new_id()[:8]}",
                kind=kind, lane=lane, about=about, who=who, asked=asked, ordered_at=now_s,
            )  # fmt: skip
            self._keep(made)
            self._forget_old()
            self._start()
            return self._known[made.id]

    def cancel(self, operation_id: str, reason: str) -> bool:
        """Stop one, or take it out of the queue; whether it had not ended."""
        with self._changed:
            found = self._known.get(operation_id)
            if found is None or found.ended:
                return False
            hand = self._hands.get(operation_id)
            if hand is None:
                self._end(found, Ending(state=State.CANCELLED, problem=reason))
        if hand is not None:
            hand.cancel.cancel(reason)
        return True

    def wait(self, operation_id: str, timeout_s: float) -> bool:
        """Whether it has ended by then."""
        with self._changed:
            return self._changed.wait_for(
                lambda: operation_id not in self._known or self._known[operation_id].ended, timeout=timeout_s
            )

    def limit(self, work_max: int) -> None:
        """So much work at a time from now on."""
        with self._changed:
            self._most[Lane.WORK] = work_max
            self._start()

    def stop(
        self, reason: str, *, wait_s: float, finish_s: float = 0.0, hurry: threading.Event | None = None
    ) -> list[Operation]:
        """Begin nothing more; let what goes on end within ``finish_s``, unless in a ``hurry``; then cancel it.

        Returns what has not ended ``wait_s`` later.
        """
        with self._changed:
            self._stopping = f"the service stops: {reason}"
            for one in list(self._known.values()):
                if one.state is State.WAITING:
                    ending = Ending(state=State.INTERRUPTED, problem=f"{self._stopping}, before it began")
                    self._end(one, replace(ending, hint="order it again"))
            end_s = self._clock.monotonic_s() + finish_s
            while self._hands and self._clock.monotonic_s() < end_s and not (hurry is not None and hurry.is_set()):
                self._changed.wait(HURRY_STEP_S)
            hands = list(self._hands.values())
        for hand in hands:
            hand.cancel.cancel(reason)
        with self._changed:
            self._changed.wait_for(lambda: not self._hands, timeout=wait_s)
            return [self._known[one] for one in self._hands]

    # -- under the condition

    def _start(self) -> None:
        for lane, most in self._most.items():
            running = sum(1 for one in self._hands if self._known[one].lane is lane)
            waiting = [one for one in self._known.values() if one.state is State.WAITING and one.lane is lane]
            for one in sorted(waiting, key=lambda one: (one.ordered_at, one.id))[: max(0, most - running)]:
                self._begin(one)

    def _begin(self, one: Operation) -> None:
        begun = replace(one, state=State.RUNNING, began_at=self._clock.now_s())
        self._keep(begun)
        self._hands[one.id] = Hand(progress=Progress(self._clock))
        threading.Thread(target=self._go, args=(begun,), name=f"operation {one.id}", daemon=True).start()

    def _go(self, one: Operation) -> None:
        hand = self._hands[one.id]
        ending = Ending(state=State.FAILED, problem="internal error: the log of the service has the traceback")
        try:
            ending = self._perform(one, hand)
        finally:
            with self._changed:
                try:
                    self._end(self._with_said(one), ending)
                finally:
                    del self._hands[one.id]
                    self._start()
                    self._changed.notify_all()

    def _end(self, one: Operation, ending: Ending) -> None:
        ended = replace(
            one,
            state=ending.state,
            result=ending.result,
            problem=ending.problem,
            hint=ending.hint,
            ended_at=self._clock.now_s(),
        )
        try:
            self._keep(ended)
        except OSError as error:  # it has ended all the same: known here, and found as interrupted later
            self._known[one.id] = replace(ended, hint=f"this could not be written down: {error}")
        self._told(self._known[one.id])
        self._changed.notify_all()

    def _with_said(self, one: Operation) -> Operation:
        hand = self._hands.get(one.id)
        return one if hand is None else replace(one, said=tuple(hand.lines.copy()))

    def _keep(self, one: Operation) -> None:
        """In its file first: what could not be written down is not begun."""
        write_whole(self._directory / f"{one.id}.json", one.as_data())
        self._known[one.id] = one

    def _forget_old(self) -> None:
        ended = sorted((one for one in self._known.values() if one.ended), key=lambda one: one.ordered_at)
        for one in ended[: max(0, len(self._known) - KEPT)]:
            with suppress(OSError):  # it is found, and forgotten, at the next start
                (self._directory / f"{one.id}.json").unlink(missing_ok=True)
            del self._known[one.id]

    def _read(self) -> None:
        for path in sorted(self._directory.glob("*.json"))[-KEPT:]:
            found = _parsed(path)
            if found is None or found.id != path.stem:
                continue  # damaged, or nobody's: it stays where it is
            if not found.ended:
                found = replace(
                    found, state=State.INTERRUPTED, ended_at=self._clock.now_s(), problem=LEFT, hint=LEFT_HINT
                )
                with suppress(OSError):  # a full disk: it is found like that again
                    self._keep(found)
                self.interrupted.append(found)
            self._known[found.id] = found


def _parsed(path: Path) -> Operation | None:
    try:
        value = json.loads(path.read_bytes())
        read = {
            **value,
            "lane": Lane(value["lane"]),
            "state": State(value["state"]),
            "said": tuple(str(line) for line in value["said"]),
            "ordered_at": float(value["ordered_at"]),
        }
        return Operation(**read)
    except (OSError, ValueError, TypeError, KeyError):
        return None
