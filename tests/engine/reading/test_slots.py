"""The budget of connections: never exceeded, everybody's turn comes, and whoever waits can be stopped."""

import threading

import pytest

from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.reading.slots import NbdSlots


def test_what_is_left_is_given_and_comes_back() -> None:
    slots, cancel = NbdSlots(12), CancelToken()
    for _ in range(2):
        with (
            slots.taken(4, cancel) as one,
            slots.taken(4, cancel) as two,
            slots.taken(4, cancel) as three,
            slots.taken(4, cancel) as four,
            slots.taken(4, cancel) as five,
        ):
            assert (one, two, three, four, five) == (4, 4, 2, 1, 1)
    with slots.taken(8, cancel) as alone:
        assert alone == 8


def test_a_waiter_gets_its_turn() -> None:
    slots, cancel, got = NbdSlots(1), CancelToken(), []

    def wait() -> None:
        with slots.taken(2, cancel) as count:
            got.append(count)

    with slots.taken(1, cancel):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.05)
        assert thread.is_alive() and not got
    thread.join(10)
    assert got == [1]


def test_a_waiter_is_woken_when_the_run_is_stopped() -> None:
    slots, cancel = NbdSlots(1), CancelToken()
    with slots.taken(1, cancel):
        timer = threading.Timer(0.05, cancel.cancel, ["enough"])
        timer.start()
        with pytest.raises(Cancelled, match="enough"), slots.taken(1, cancel):
            pytest.fail("there was none")
    timer.join()
    with slots.taken(1, CancelToken()) as count:
        assert count == 1
