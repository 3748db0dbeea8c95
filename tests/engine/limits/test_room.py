"""The room: in order, no more than allowed, woken when cancelled."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from xobackup.clock import FakeClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.limits.gates import Gate
from xobackup.engine.limits.room import Room

SR = Gate(key="sr", name="SR local", what="transfers", room=1)


def test_who_waits_is_told_for_what_and_goes_on_in_order() -> None:
    room, cancel, order, told = Room(), CancelToken(), [], []
    waits = threading.Barrier(2, timeout=20)

    def one(number: int) -> None:
        stands = False

        def note(what: str) -> None:
            nonlocal stands
            told.append(what)
            if not stands:  # told again when the places change, and then nobody waits for it
                stands = True
                waits.wait()

        with room.through((SR,), cancel, told=note):
            order.append(number)

    with ThreadPoolExecutor(3) as threads:
        with room.through((SR,), cancel, told=told.append):
            futures = []
            for number in (1, 2):  # each stands in the queue before the next one comes
                futures.append(threads.submit(one, number))
                waits.wait()
            assert order == []
        for future in futures:
            future.result(20)
    assert order == [1, 2] and set(told) >= {"SR local: 1 of 1 transfers"}


def test_cancelling_wakes_who_waits_and_frees_his_place() -> None:
    room, cancel, told = Room(), CancelToken(), threading.Event()

    def wait() -> None:
        with room.through((SR,), cancel, told=lambda _what: told.set()):
            pytest.fail("nobody had left")

    with ThreadPoolExecutor(1) as threads, room.through((SR,), CancelToken(), told=print):
        future = threads.submit(wait)
        assert told.wait(20)
        cancel.cancel("enough")
        with pytest.raises(Cancelled, match="enough"):
            future.result(20)
    with room.through((SR,), CancelToken(), told=lambda what: pytest.fail(what)):
        pass


def test_a_failure_inside_gives_the_place_back() -> None:
    room = Room()
    with pytest.raises(ZeroDivisionError), room.through((SR,), CancelToken(), told=print):
        1 / 0  # noqa: B018
    with room.through((SR,), CancelToken(), told=lambda what: pytest.fail(what)):
        pass


def test_deletions_are_spread_by_sr() -> None:
    room, clock = Room(), FakeClock()
    assert [room.pace(("a",), 30, clock) for _ in range(3)] == [0, 30, 60]
    assert room.pace(("b",), 30, clock) == 0
    assert room.pace(("a", "b"), 30, clock) == 90
    clock.advance(500)
    assert room.pace(("a",), 30, clock) == 0
    assert room.pace((), 30, clock) == room.pace(("a",), 0, clock) == 0
