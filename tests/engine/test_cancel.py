"""One switch, thrown by a signal or a thread, that wakes who waits."""

import os
import signal

import pytest

from xobackup.clock import FakeClock
from xobackup.engine import cancel
from xobackup.engine.cancel import CancelToken, on_signals
from xobackup.engine.errors import Cancelled


def test_waiters_are_woken_once_and_only_while_they_wait() -> None:
    token, woken = CancelToken(), []
    with token.waking(lambda: woken.append("first")):
        pass
    with token.waking(lambda: woken.append("second")):
        token.cancel("stop")
        token.cancel("again")
    assert woken == ["second"] and token.reason == "stop"


def test_entering_after_the_switch_was_thrown_raises_at_once() -> None:
    token = CancelToken()
    token.cancel("stop")
    with pytest.raises(Cancelled, match="stop"), token.waking(lambda: None):
        pytest.fail("entered")


def test_sleep_notices_the_switch() -> None:
    token = CancelToken()

    class Clock(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now_s() > start + 3:
                token.cancel()

    clock = Clock()
    start = clock.now_s()
    with pytest.raises(Cancelled):
        token.sleep(clock, 60)
    assert clock.now_s() - start < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_throws_the_switch_and_handlers_come_back(number: int) -> None:
    before = signal.getsignal(number)
    token = CancelToken()
    with on_signals(token):
        os.kill(os.getpid(), number)
        assert token.cancelled and token.reason == f"stopped by {signal.Signals(number).name}"
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_the_clean_up(second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "ECHO_S", 0.0)
    aborted: list[int] = []
    with on_signals(CancelToken(), abort=aborted.append):
        os.kill(os.getpid(), signal.SIGINT)
        assert not aborted
        os.kill(os.getpid(), second)
    assert aborted == [second]


def test_the_echo_of_a_signal_is_no_second_one() -> None:
    aborted: list[int] = []
    with on_signals(CancelToken(), abort=aborted.append):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert not aborted
