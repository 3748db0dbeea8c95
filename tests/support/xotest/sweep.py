"""The sweep: cut the power at change 1, 2, 3 ... of a job until it survives untouched.

::

    def build() -> MemoryRemote:              # the world before the job; make it once and give out snapshots
        return prepared.snapshot()

    def run(remote: Remote) -> None:          # the job; must cope with what an earlier, interrupted run left
        merge(Repository(remote, ...))

    def check(remote: Remote) -> None:        # true after every cut, before and after the next run
        assert every_restore_point_readable(remote)

    def finished(remote: Remote) -> None:     # true only after a run that ended by itself (optional)
        assert points(remote) == [...]

    sweep(build, run, check, finished)

For every change *n* that the job makes to the remote (:data:`remotes.faults.CHANGES`) the power goes off once before
it, and once in its middle where it has one (:data:`remotes.faults.TEARABLE`). Then a survivor is drawn, from which
unsynced writes may be lost, torn or reordered; ``check`` it, ``run`` again on it without faults, ``check`` and
``finished``. The job has to be deterministic as far as its changes go. Threads of the job that outlive the cut must
end by themselves: each of their operations raises ``PowerCut``.

:func:`sweep_errors` does the same with an error in place of the cut: nothing is lost, but the job is refused once at
every operation, and must end with one of the errors ``expected``, or cope.

Both return how many cuts or errors they made. On failure the note names the seed, the change and the last operations.
The seed is fixed unless the argument (the fixture of that name) or ``XOTEST_SEED`` gives another; ``XOTEST_CUT=17``
or ``XOTEST_CUT=17:during`` replays one cut.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence

from remotes import errors
from remotes.contract import Remote
from remotes.faults import TEARABLE, Cut, Fault, Faults, Moment, PowerCut
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote

Build = Callable[[], MemoryRemote]
Step = Callable[[Remote], object]

DEFAULT_SEED = 20261120


def _seed(chosen: int | None) -> int:
    return int(os.environ.get("XOTEST_SEED", DEFAULT_SEED)) if chosen is None else chosen


def sweep(
    build: Build,
    run: Step,
    check: Step,
    finished: Step | None = None,
    *,
    survivors: int = 1,
    every: int = 1,
    first: int = 1,
    seed: int | None = None,
) -> int:
    """See the module's head. ``survivors`` are drawn per cut; ``every`` > 1 skips cuts, ``first`` starts later."""
    seed = _seed(seed)
    cuts = 0
    tearable = False
    for number, moment in _cuts(first, every):
        if moment is Moment.DURING and not tearable:
            continue
        remote = build()
        faults = Faults(cut=Cut(at=number, moment=moment), rng=_rng(seed, number, moment, "torn"))
        with _noted(f"power cut {moment} change {number}, XOTEST_SEED={seed}", faults):
            if not _interrupted(lambda: run(FaultyRemote(remote, faults)), faults):  # noqa: B023 - called at once
                assert cuts, "the job made no change at all"
                check(remote)
                if finished:
                    finished(remote)
                return cuts
            assert faults.cut_operation
            tearable = faults.cut_operation.kind in TEARABLE
            cuts += 1
            for draw in range(survivors):
                _recover(remote.survivor(_rng(seed, number, moment, str(draw))), run, check, finished)
    return cuts


def sweep_errors(
    build: Build,
    run: Step,
    check: Step,
    finished: Step | None = None,
    *,
    error: Callable[[str, str], BaseException] = errors.NoSpace,
    expected: tuple[type[BaseException], ...] = (errors.RemoteError,),
    changes_only: bool = True,
    lasting: bool = False,
    every: int = 1,
) -> int:
    """See the module's head. ``lasting``: every change after the first failing one fails too (a full disk)."""
    for number in itertools.count(1, every):
        remote = build()
        fault = (
            Fault(error=error, at_change=None if lasting else number, operation="*", times=1)
            if changes_only
            else Fault(error=error, at=number)
        )
        faults = _LastingFaults(error, number) if lasting else Faults(fault)
        with _noted(f"{error} at {'change' if changes_only else 'operation'} {number}", faults):
            with contextlib.suppress(*expected):
                run(FaultyRemote(remote, faults))
            reached = faults.changes if changes_only or lasting else faults.operations
            check(remote)
            if reached < number:
                if finished:
                    finished(remote)
                return number - 1
            _recover(remote, run, check, finished)
    raise AssertionError("unreachable")


class _LastingFaults(Faults):
    """Every change from number ``first`` on fails."""

    def __init__(self, error: Callable[[str, str], BaseException], first: int) -> None:
        super().__init__()
        self._error = error
        self._first = first

    def perform(self, kind, remote, name, action, torn=None):  # type: ignore[no-untyped-def,override]
        def refused():  # type: ignore[no-untyped-def]
            if self.log[-1].change is not None and self.changes >= self._first:
                raise self._error(remote, name)
            return action()

        return super().perform(kind, remote, name, refused, torn)


def _cuts(first: int, every: int) -> Iterator[tuple[int, Moment]]:
    chosen = os.environ.get("XOTEST_CUT")
    if chosen:
        number, _, moment = chosen.partition(":")
        yield int(number), Moment.BEFORE
        yield int(number), Moment(moment or Moment.DURING)
        return
    for number in itertools.count(first, every):
        yield number, Moment.BEFORE
        yield number, Moment.DURING


def _interrupted(job: Callable[[], object], faults: Faults) -> bool:
    try:
        job()
    except PowerCut:
        return True
    assert not faults.cut_operation, f"the job swallowed the power cut at operation {faults.cut_operation}"
    return False


def _recover(remote: MemoryRemote, run: Step, check: Step, finished: Step | None) -> None:
    check(remote)
    run(remote)
    check(remote)
    if finished:
        finished(remote)


def _rng(*parts: object) -> random.Random:
    return random.Random(" ".join(map(str, parts)))


@contextlib.contextmanager
def _noted(what: str, faults: Faults) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        lines: Sequence[str] = [f"  {operation}" for operation in faults.log[-15:]]
        error.add_note(f"{what}; the last operations:\n" + "\n".join(lines))
        raise
