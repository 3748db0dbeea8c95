"""Trying again, bounded: policy as arguments, the clock injected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xobackup.clock import Clock
from xobackup.xapi.errors import Busy, XapiError
from xobackup.xapi.timeouts import Timeouts

T = TypeVar("T")


def is_transient(error: XapiError) -> bool:
    """Trying again can help, and cannot do the thing twice."""
    return error.transient and not error.outcome_unknown


def retry_transient(
    action: Callable[[], T],
    *,
    clock: Clock,
    tries: int = 10,
    pause_s: float = 5.0,
    growth: float = 1.0,
    pause_max_s: float = 60.0,
    when: Callable[[XapiError], bool] = is_transient,
    on_retry: Callable[[int, XapiError], None] | None = None,
) -> T:
    """Call ``action`` until it returns, at most ``tries`` times, while ``when`` says that its error may pass.

    ``on_retry`` is told the number of the failed attempt and its error before each pause.
    """
    attempt = 1
    while True:
        try:
            return action()
        except XapiError as error:
            if attempt >= tries or not when(error):
                raise
            if on_retry is not None:
                on_retry(attempt, error)
        clock.sleep(min(pause_s * growth ** (attempt - 1), pause_max_s))
        attempt += 1


def wait_while_busy(
    action: Callable[[], T],
    *,
    clock: Clock,
    timeouts: Timeouts,
    should_stop: Callable[[], bool] | None = None,
) -> T:
    """Call ``action`` again, bounded, while the pool says that something is busy: that refusal has done nothing."""

    def passes(error: XapiError) -> bool:
        if not isinstance(error, Busy) or not is_transient(error) or error.code == "HOST_STILL_BOOTING":
            return False  # a booting host is waited for by the session, longer
        return should_stop is None or not should_stop()

    return retry_busy(action, clock=clock, timeouts=timeouts, when=passes)


def retry_busy(
    action: Callable[[], T],
    *,
    clock: Clock,
    timeouts: Timeouts,
    when: Callable[[XapiError], bool] = is_transient,
    on_retry: Callable[[int, XapiError], None] | None = None,
) -> T:
    """:func:`retry_transient` as often, and after such pauses, as a busy host or disk is asked."""
    return retry_transient(
        action,
        clock=clock,
        tries=timeouts.busy_tries,
        pause_s=timeouts.busy_first_s,
        growth=2.0,
        pause_max_s=timeouts.busy_pause_s,
        when=when,
        on_retry=on_retry,
    )
