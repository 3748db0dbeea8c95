"""The loop that gives every VM its turns: it starts what is ready, looks at chains that are waited for, and sleeps.

A *unit* is what is backed up together: one VM, or several whose snapshots belong together. Of a unit that failed or
was put off, those VMs go on that need another turn. Every VM has exactly one final report.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from xobackup.engine.attempt import Turn
from xobackup.engine.context import RunContext
from xobackup.engine.errors import Cancelled, EngineError
from xobackup.engine.job import Job
from xobackup.engine.report import VmReport
from xobackup.engine.turns.queue import Place, State, next_step
from xobackup.engine.turns.retry import pause_s
from xobackup.engine.turns.waiting import Waiting
from xobackup.engine.view import VmView

if TYPE_CHECKING:
    from xobackup.engine.world import World

TICK_S = 0.25
"""How late a pause may be noticed to be over while other VMs run."""

Pair = tuple[RunContext, VmView]
Unit = tuple[Pair, ...]
AttemptUnit = Callable[[Unit, Mapping[str, Turn]], Sequence[VmReport]]
"""One attempt for a unit, with the turn of each VM by its uuid. Must not raise for what happens to a VM."""


class Work:
    """See the module's head; make one per run and :meth:`run` it."""

    def __init__(
        self,
        job: Job,
        world: World,
        units: Sequence[Unit],
        *,
        attempt: AttemptUnit,
        refusal: Callable[[VmView], EngineError | None] = lambda _vm: None,
    ) -> None:
        """``refusal``: why a VM must not even begin."""
        self._settings = job.settings
        self._world = world
        self._units = dict(enumerate(units))
        self._order = [vm.uuid for unit in units for _, vm in unit]
        self._places = {key: Place(key=key, number=key) for key in self._units}
        self._attempt = attempt
        self._refusals = {vm.uuid: refusal(vm) for unit in units for _, vm in unit}
        self._final: dict[str, VmReport] = {}
        self._last: dict[str, VmReport] = {}
        """What came of the turn before."""
        self._waiting = Waiting(job, world)
        self._changed = threading.Condition()
        self._ended: deque[tuple[int, Future[Sequence[VmReport]]]] = deque()
        self._turns = len(self._units)

    def run(self) -> list[VmReport]:
        """Until every VM has its verdict; in the order they were given."""
        slots = self._settings.vms_max
        try:
            with ThreadPoolExecutor(max_workers=slots, thread_name_prefix="vm") as threads:
                while any(place.state is not State.DONE for place in self._places.values()):
                    if self._world.cancel.cancelled:
                        self._hurry()
                    step = next_step(list(self._places.values()), now_s=self._now_s(), slots=slots)
                    for key in step.start:
                        self._start(threads, key)
                    if step.look:
                        self._look(step.look)
                    elif not step.start:
                        self._sleep(step.wake_s)
                    self._collect()
        finally:
            self._waiting.close()
        return [self._final[uuid] for uuid in self._order if uuid in self._final]

    def _now_s(self) -> float:
        return self._world.clock.monotonic_s()

    def _hurry(self) -> None:
        """Somebody asked to stop: nobody waits any more, every attempt says so."""
        for place in self._places.values():
            if place.state in (State.PAUSED, State.CHAINS):
                place.state = State.READY

    def _start(self, threads: ThreadPoolExecutor, key: int) -> None:
        place, unit = self._places[key], self._units[key]
        place.state = State.RUNNING
        turns = {vm.uuid: self._turn(place, vm) for _, vm in unit}

        def ended(future: Future[Sequence[VmReport]]) -> None:
            with self._changed:
                self._ended.append((key, future))
                self._changed.notify_all()

        threads.submit(self._attempt, unit, turns).add_done_callback(ended)

    def _turn(self, place: Place, vm: VmView) -> Turn:
        before = self._last.get(vm.uuid)
        return Turn(
            number=place.attempt,
            last=place.attempt > self._settings.retries,
            refusal=self._waiting.refusal(vm.uuid) or self._refusals[vm.uuid],
            patient=True,
            before=before.tried if before else (),
        )

    def _collect(self) -> None:
        with self._changed:
            ended = list(self._ended)
            self._ended.clear()
        for key, future in ended:
            self._sort_in(key, future.result())

    def _sort_in(self, key: int, reports: Sequence[VmReport]) -> None:
        """Who has a verdict, who is tried again, who waits for chains."""
        unit, place = self._units[key], self._places[key]
        by_uuid = {report.uuid: report for report in reports}
        deferred = [pair for pair in unit if by_uuid[pair[1].uuid].deferred]
        again = [pair for pair in unit if by_uuid[pair[1].uuid].retryable]
        for _, vm in unit:
            report = by_uuid[vm.uuid]
            if not report.deferred:
                self._last[vm.uuid] = report
                self._final[vm.uuid] = self._waiting.noted(report)
        place.state = State.DONE
        if again:
            due_s = self._now_s() + pause_s(place.attempt, self._settings.retry_pause_s)
            self._queue(again, state=State.PAUSED, attempt=place.attempt + 1, due_s=due_s)
        if deferred:
            self._put_off(deferred, by_uuid, place)

    def _put_off(self, deferred: Sequence[Pair], by_uuid: Mapping[str, VmReport], place: Place) -> None:
        for context, vm in deferred:
            self._waiting.add(context, vm, by_uuid[vm.uuid].chains)
        due_s = self._waiting.due_s([vm.uuid for _, vm in deferred])
        self._queue(deferred, state=State.CHAINS, attempt=place.attempt, due_s=due_s)

    def _queue(self, pairs: Sequence[Pair], *, state: State, attempt: int, due_s: float) -> None:
        """To the end of the queue."""
        key, self._turns = self._turns, self._turns + 1
        self._units[key] = tuple(pairs)
        self._places[key] = Place(key=key, number=key, state=state, attempt=attempt, due_s=due_s)

    def _look(self, keys: Sequence[int]) -> None:
        """At the chains of these: whose are healthy, or were waited for long enough, has a turn."""
        self._waiting.look([vm.uuid for key in keys for _, vm in self._units[key]])
        for key in keys:
            uuids = [vm.uuid for _, vm in self._units[key]]
            if self._waiting.over(uuids):
                self._places[key].state = State.READY
            else:
                self._places[key].due_s = self._waiting.due_s(uuids)

    def _sleep(self, wake_s: float | None) -> None:
        running = any(place.state is State.RUNNING for place in self._places.values())
        left_s = None if wake_s is None else max(0.0, wake_s - self._now_s())
        if not running:
            if left_s is not None:
                with suppress(Cancelled):
                    self._world.cancel.sleep(self._world.clock, left_s)
            return
        with self._changed:
            if not self._ended:
                self._changed.wait(None if left_s is None else min(left_s, TICK_S))
