"""Answers from far away: looked up in threads, waited for a bounded time, kept with their age.

A storage or pool that hangs costs a page :data:`WAIT_S`, and two threads at most: what is asked again joins the look
that has not come back, and what else is asked there is told that it is busy.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.cli.failures import explain, foreseen
from xobackup.web.views import Looked

if TYPE_CHECKING:
    from xobackup.clock import Clock

WAIT_S = 3.0
FRESH_S = 60.0
KEPT = 500
AT_ONCE = 2
BUSY = "it is busy with earlier looks that have not come back; load the page again in a while"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The last answer, and how the last look went. ``asked_s``: monotonic."""

    value: Any = None
    looked: Looked = field(default_factory=Looked)
    asked_s: float = float("-inf")


class Looks:
    """See the module's head. Thread-safe."""

    def __init__(self, clock: Clock, *, wait_s: float = WAIT_S) -> None:
        self._clock, self._wait_s = clock, wait_s
        self._mutex = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._pending: dict[tuple[str, str], threading.Event] = {}

    def ask(self, place: str, key: str, find: Callable[[], object], *, again: bool = False) -> Kept:
        """What ``find`` returned lately, or returns within the time there is; else the last it did.

        ``place``: whose patience is asked.
        """
        return self.ask_all([(place, key, find)], again=again)[0]

    def ask_all(self, asked: Sequence[tuple[str, str, Callable[[], object]]], *, again: bool = False) -> list[Kept]:
        """Several at a time: waited for once."""
        end_s = self._clock.monotonic_s() + self._wait_s
        begun = [self._begin((place, key), find, again=again) for place, key, find in asked]
        return [
            one if isinstance(one, Kept) else self._after((place, key), one, end_s)
            for one, (place, key, _) in zip(begun, asked, strict=True)
        ]

    def _begin(self, both: tuple[str, str], find: Callable[[], object], *, again: bool) -> Kept | threading.Event:
        """What is kept, if that will do or must; else what is set when the look has come back."""
        with self._mutex:
            kept = self._kept.get(both, Kept())
            if self._clock.monotonic_s() - kept.asked_s < FRESH_S and not again:
                return kept
            event = self._pending.get(both)
            if event is None:
                if sum(1 for place, _ in self._pending if place == both[0]) >= AT_ONCE:
                    return _with(kept, problem=BUSY, pending=True)
                event = self._pending[both] = threading.Event()
                threading.Thread(target=self._look, args=(both, find), name=f"look at {both[0]}", daemon=True).start()
            return event

    def _after(self, both: tuple[str, str], event: threading.Event, end_s: float) -> Kept:
        in_time = event.wait(max(0.0, end_s - self._clock.monotonic_s()))
        with self._mutex:
            kept = self._kept.get(both, Kept())
        if in_time:
            return kept
        return _with(kept, problem=f"it did not answer within {self._wait_s:g} s", pending=True)

    def forget(self, place: str, key: str) -> None:
        """Something was changed there; with an empty ``key``, nobody knows what of it."""
        with self._mutex:
            for both, kept in self._kept.items():
                if both[0] == place and key in (both[1], ""):
                    self._kept[both] = Kept(value=kept.value, looked=kept.looked)

    def _look(self, both: tuple[str, str], find: Callable[[], object]) -> None:
        before = self._kept.get(both, Kept())
        answer = _with(before, problem="internal error: the log of the service has the traceback", pending=False)
        try:
            value = find()
        except foreseen() as error:
            answer = _with(before, problem=explain(error).message, pending=False)
        else:
            answer = Kept(value=value, looked=Looked(at=self._clock.now_s()))
        finally:
            with self._mutex:
                self._kept[both] = Kept(value=answer.value, looked=answer.looked, asked_s=self._clock.monotonic_s())
                self._kept.move_to_end(both)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
                self._pending.pop(both).set()


def _with(kept: Kept, *, problem: str, pending: bool) -> Kept:
    looked = Looked(at=kept.looked.at, problem=problem, pending=pending)
    return Kept(value=kept.value, looked=looked, asked_s=kept.asked_s)
