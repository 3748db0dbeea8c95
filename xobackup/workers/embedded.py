"""Tasks brought by looking at the board: threads of the workers' own processes, over SQLite. Needs no server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from xobackup.workers.errors import BoardUnavailable

if TYPE_CHECKING:
    import sqlalchemy as sa

    from xobackup.workers.board import Board
    from xobackup.workers.dispatch import Do
    from xobackup.workers.records import Delivery, Task

LOOK_S = 0.1
"""Between two looks at a board with nothing to do."""


class EmbeddedDispatch:
    """See the module's head, and :class:`xobackup.workers.dispatch.Dispatch`."""

    def __init__(self) -> None:
        self._board: Board | None = None

    def attach(self, board: Board) -> None:
        """The board to look at."""
        self._board = board

    def send(self, connection: sa.Connection, tasks: Sequence[Task]) -> None:
        """They are on the board."""

    def free(self, connection: sa.Connection, tasks: Sequence[str]) -> None:
        """The board knows."""

    def missing(self, connection: sa.Connection, tasks: Sequence[str]) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing of its own is open."""

    def serve(self, worker: str, queues: Sequence[str], slots: int, do: Do, stopping: Callable[[], bool]) -> None:
        free = threading.Semaphore(slots)
        pause = threading.Event()

        def work(delivery: Delivery) -> None:
            try:
                do(delivery)
            finally:
                free.release()

        with ThreadPoolExecutor(max_workers=slots, thread_name_prefix="task") as threads:
            while not stopping():
                if not free.acquire(timeout=LOOK_S):
                    continue
                delivery = self._next(worker, queues)
                if delivery is None:
                    free.release()
                    pause.wait(LOOK_S)
                else:
                    threads.submit(work, delivery)

    def _next(self, worker: str, queues: Sequence[str]) -> Delivery | None:
        assert self._board is not None
        try:
            task = self._board.next_task(queues)
            return None if task is None else self._board.take(task, worker)
        except BoardUnavailable:
            return None  # it will be back
