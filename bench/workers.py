"""The queue of VM runs: what it costs per VM, and whether ten thousand that wait make it slower."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Settings
from bench.rows import Row

TASKS = 10_000
SLOTS = 4
AT_ONCE = 500
SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"


def rows(settings: Settings) -> Iterator[Row]:
    if not SUPPORT.is_dir() or not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        return
    sys.path.insert(0, str(SUPPORT))
    from xotest.postgres import postgres_server

    count = max(200, settings.blocks(TASKS))
    with postgres_server() as url:
        put_s, drained_s, ends = drain(url, count)
    tenth = count // 10
    first_ms = 1000 * (ends[tenth] - ends[0]) / tenth
    last_ms = 1000 * (ends[-1] - ends[-1 - tenth]) / tenth
    detail = f"{count} tasks put in {put_s:.1f} s, drained in {drained_s:.1f} s by one worker with {SLOTS} slots"
    cost_ms = 1000 * (put_s + drained_s) / count
    yield Row(name="queue: cost per VM run", ratio=cost_ms, goal=50, better="lower", unit="ms", detail=detail)
    told = f"per task {last_ms:.1f} ms for the last tenth, {first_ms:.1f} ms for the first"
    yield Row(name="queue: last tenth / first tenth", ratio=last_ms / first_ms, goal=1.5, better="lower", detail=told)


def drain(url: str, count: int) -> tuple[float, float, list[float]]:
    """Put so many, and do them; how long both took, and when each ended. A task says three things, as a VM does."""
    from xobackup.workers.opening import open_board
    from xobackup.workers.records import ANYWHERE, Delivery, Task, Worker

    board, ends, stop, guard = open_board(url), [], threading.Event(), threading.Lock()
    me = Worker(id="w", site="", host="h", pid=1, version="", slots=SLOTS, reach={})
    beats = threading.Thread(target=_beat, args=(board, me, stop))

    def do(delivery: Delivery) -> None:
        for kind in ("taken", "going", "ended"):
            board.tell(delivery, [{"kind": kind}])
        board.end(delivery, {"report": {}})
        with guard:
            ends.append(time.perf_counter())
            if len(ends) == count:
                stop.set()

    try:
        board.begin_run("r", job="bench", host="h")
        beats.start()
        began_s = time.perf_counter()
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            board.put([Task(id=f"t{n}", run="r", key=f"vm{n}", queue=ANYWHERE, order={"n": n}) for n in numbers])
        put_s = time.perf_counter() - began_s
        board.dispatch.serve("w", [ANYWHERE], SLOTS, do, stop.is_set)
        return put_s, ends[-1] - began_s - put_s, ends
    finally:
        stop.set()
        beats.join()
        board.close()


def _doing(board: object) -> list[str]:
    """Whatever is being done: nothing was dropped here."""
    from xobackup.workers.board import Board

    assert isinstance(board, Board)
    return [f"t{order['n']}" for one in board.workers() for order in one.doing]


def _beat(board: object, me: object, stop: threading.Event) -> None:
    """What keeps run and worker alive, and reads what was said, as a control node does."""
    from xobackup.workers.board import Board
    from xobackup.workers.records import Worker

    assert isinstance(board, Board) and isinstance(me, Worker)
    board.beat(me, now_s=0.0, up_s=1.0, doing=[])
    rounds = 0
    while not stop.wait(0.05):
        board.news("r")
        rounds += 1
        if rounds % 100 == 0:
            board.beat(me, now_s=0.0, up_s=1.0, doing=_doing(board))
            board.beat_run("r")
            board.reap()
