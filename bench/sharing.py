"""A rate that several workers share: what passes through all of them together, by the clock and a real server."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Settings
from bench.rows import Row

RATE = 200e6
WORKERS = 3
SETTLED_S = 3.0
"""Until everybody has said his word twice."""
MEASURED_S = 6.0
PIECE_BYTES = 1 << 20
SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"


def rows(settings: Settings) -> Iterator[Row]:
    if not SUPPORT.is_dir() or not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        return
    sys.path.insert(0, str(SUPPORT))
    from xotest.postgres import postgres_server

    with postgres_server() as url:
        passed, seconds, spread = transferred(url)
    ratio = passed / (RATE * seconds)
    told = f"{WORKERS} workers, {seconds:.1f} s, {passed / seconds / 1e6:.0f} MB/s of {RATE / 1e6:.0f}"
    detail = f"{told}; the fastest had {spread:.2f} times what the slowest had"
    yield Row(name="shared rate: sum / limit", ratio=ratio, goal=1.05, better="lower", detail=detail)


def transferred(url: str) -> tuple[int, float, float]:
    """Bytes of all, in how many seconds, and the fastest's share of them by the slowest's."""
    from xobackup.clock import SystemClock
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.limits.bandwidth import Timetable
    from xobackup.engine.throttle import Throttle
    from xobackup.workers.opening import open_board
    from xobackup.workers.shares import SharedRates

    stop, counts = threading.Event(), [0] * WORKERS
    boards = [open_board(url) for _ in range(WORKERS)]
    every = [SharedRates(board, f"w{n}", SystemClock(), goes_on=False) for n, board in enumerate(boards)]

    def work(number: int) -> None:
        share = every[number].of("all jobs")
        throttle = Throttle(Timetable(rate_bytes_s=RATE), SystemClock(), share=share)
        while not stop.is_set():
            throttle.take(PIECE_BYTES, CancelToken())
            counts[number] += PIECE_BYTES

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    try:
        for one in every:
            one.start()
        for thread in threads:
            thread.start()
        time.sleep(SETTLED_S)
        before, began_s = list(counts), time.perf_counter()
        time.sleep(MEASURED_S)
        moved = [now - then for now, then in zip(list(counts), before, strict=True)]
        return sum(moved), time.perf_counter() - began_s, max(moved) / max(1, min(moved))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for one, board in zip(every, boards, strict=True):
            one.close()
            board.close()
