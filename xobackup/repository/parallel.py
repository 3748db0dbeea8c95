"""Read several small things at once: what a listing costs is latency, not bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

READERS_MAX = 8
FEW = 3
"""Not worth threads."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int = READERS_MAX
) -> Iterable[Result]:
    """``function`` of every item, in order; the first exception is raised and cancels what has not begun."""
    if len(items) <= FEW or workers <= 1:
        return map(function, items)
    return _pooled(function, items, min(workers, len(items)))


def _pooled(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            yield from pool.map(function, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
