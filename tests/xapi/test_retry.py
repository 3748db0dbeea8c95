from __future__ import annotations

import pytest

from xobackup.clock import FakeClock
from xobackup.xapi.errors import ConnectionLost, XapiError
from xobackup.xapi.failures import failure
from xobackup.xapi.retry import retry_transient


class Flaky:
    """Fails with each error in turn, then returns."""

    def __init__(self, *errors: XapiError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


BUSY = failure("VDI_IN_USE", ["OpaqueRef:1", "destroy"])


def test_a_busy_disk_is_tried_again_after_a_pause() -> None:
    clock = FakeClock()
    began = clock.monotonic_s()
    told: list[int] = []
    action = Flaky(BUSY, BUSY)
    assert retry_transient(action, clock=clock, on_retry=lambda attempt, error: told.append(attempt)) == "done"
    assert clock.monotonic_s() - began == 10.0
    assert told == [1, 2]


def test_it_gives_up_after_the_last_try() -> None:
    action = Flaky(*[BUSY] * 20)
    with pytest.raises(XapiError):
        retry_transient(action, clock=FakeClock(), tries=10)
    assert action.calls == 10


def test_what_cannot_pass_is_raised_at_once() -> None:
    action = Flaky(failure("SR_FULL", ["1", "2"]))
    with pytest.raises(XapiError):
        retry_transient(action, clock=FakeClock())
    assert action.calls == 1


def test_what_may_have_been_done_is_not_done_again() -> None:
    action = Flaky(ConnectionLost("host", "broke", outcome_unknown=True))
    with pytest.raises(ConnectionLost):
        retry_transient(action, clock=FakeClock())
    assert action.calls == 1


def test_pauses_grow_up_to_a_bound() -> None:
    clock = FakeClock()
    began = clock.monotonic_s()
    retry_transient(Flaky(*[BUSY] * 4), clock=clock, pause_s=1, growth=3, pause_max_s=5)
    assert clock.monotonic_s() - began == 1 + 3 + 5 + 5
