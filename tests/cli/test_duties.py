"""What the service does from time to time."""

from __future__ import annotations

import logging
import threading

import pytest

from xobackup.cli.serving.duties import Duty


def test_a_duty_that_fails_is_told_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Semaphore(0)

    def act() -> None:
        done.release()
        raise ZeroDivisionError("never foreseen")

    with caplog.at_level(logging.ERROR), Duty("looks", act, every_s=3600, first_s=0) as duty:
        assert done.acquire(timeout=30)
        duty.now()
        assert done.acquire(timeout=30), "it would never be done again"
    assert "looks: it is tried again" in caplog.text and "never foreseen" in caplog.text
