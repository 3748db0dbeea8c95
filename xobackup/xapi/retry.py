"""Trying again, bounded: policy as arguments, the clock injected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xobackup.clock import Clock
from xobackup.xapi.errors import XapiError

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
