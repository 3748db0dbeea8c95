"""Tasks brought by Procrastinate over PostgreSQL: woken by the server, one at a time per key (its ``lock``).

* A job is nothing but the id of a task. What is to be done, and whether it still is, the board says.
* Jobs are sent and freed in the board's transaction, and deleted when they are done: the table is as long as what
  waits. There is no ``queueing_lock`` (a job that crashed with a newer one behind it could never be tried again).
* Every delivery is a job of its own. A job whose worker was not heard of is ended by the board's reaper and another
  one is sent, so that the word of a worker that comes back is about a job that is not there any more.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import ProcrastinateException
from procrastinate.jobs import Job
from procrastinate.utils import utcnow

from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.tasks import NAME, NAMESPACE, blueprint

if TYPE_CHECKING:
    from xobackup.workers.board import Board
    from xobackup.workers.dispatch import Do
    from xobackup.workers.records import Task

LOOK_S = 0.5
"""Between two looks when the server did not wake us: for a task whose key was just freed it does not."""
AGAIN_S = 1.0
"""Before a task whose key was busy is offered again; and before a server that went away is asked again."""
STOP_LOOK_S = 0.2


class ProcrastinateDispatch:
    """See the module's head, and :class:`xobackup.workers.dispatch.Dispatch`."""

    def __init__(self, url: str) -> None:
        """``url``: with the password in it."""
        self._conninfo = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._board: Board | None = None
        self._app = App(connector=SyncPsycopgConnector(conninfo=self._conninfo))

    def attach(self, board: Board) -> None:
        """The board whose tasks are brought. Makes Procrastinate's tables where they are missing."""
        self._board = board
        with board.writing() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7201990)"))
            if not sa.inspect(connection).has_table("procrastinate_jobs"):
                connection.exec_driver_sql(self._app.schema_manager.get_schema().replace("%", "%%"))

    def send(self, connection: sa.Connection, tasks: Sequence[Task]) -> None:
        jobs = [self._job(task.id, task.key, task.queue) for task in tasks]
        if jobs:
            self._app.job_manager.batch_defer_jobs(jobs, connection=_raw(connection))

    def free(self, connection: sa.Connection, tasks: Sequence[str]) -> None:
        ended = sa.text(
            "SELECT procrastinate_finish_job_v1(id, 'failed', true) FROM procrastinate_jobs "
            "WHERE task_name = :name AND status IN ('todo', 'doing') AND args->>'task' = ANY(:tasks)"
        )
        if tasks:
            connection.execute(ended, {"name": NAME, "tasks": list(tasks)})

    def missing(self, connection: sa.Connection, tasks: Sequence[str]) -> list[str]:
        there = sa.text("SELECT args->>'task' FROM procrastinate_jobs WHERE task_name = :name")
        known = {row[0] for row in connection.execute(there, {"name": NAME})}
        return [task for task in tasks if task not in known]

    def close(self) -> None:
        """The connections are the board's."""

    def serve(self, worker: str, queues: Sequence[str], slots: int, do: Do, stopping: Callable[[], bool]) -> None:
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what matters of it the board tells
        thread_stop = threading.Event()
        while not stopping():
            with suppress(ProcrastinateException, OSError):
                asyncio.run(self._serve(worker, list(queues), slots, do, stopping))
            if not stopping():
                thread_stop.wait(AGAIN_S)  # the server went away

    async def _serve(self, worker: str, queues: list[str], slots: int, do: Do, stopping: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # the end of a job that was freed meanwhile
        loop.set_default_executor(ThreadPoolExecutor(max_workers=slots + 2, thread_name_prefix="task"))
        app = App(connector=PsycopgConnector(conninfo=self._conninfo, min_size=1, max_size=slots + 3))
        app.add_tasks_from(blueprint(), namespace=NAMESPACE)
        async with app.open_async():
            serving = app._worker(
                queues=queues,
                name=worker,
                concurrency=slots,
                fetch_job_polling_interval=LOOK_S,
                delete_jobs="always",
                install_signal_handlers=False,
                additional_context={"do": lambda task: self._do(task, worker, do, stopping)},
            )
            running = asyncio.create_task(serving.run())  # type: ignore[no-untyped-call]
            while not running.done():
                if stopping():
                    serving.stop()  # type: ignore[no-untyped-call]
                await asyncio.wait([running], timeout=STOP_LOOK_S)
            await running

    def _do(self, task: str, worker: str, do: Do, stopping: Callable[[], bool]) -> None:
        """In a thread of its own. What goes wrong with the database is made up for by the reaper."""
        assert self._board is not None
        with suppress(BoardUnavailable):
            delivery = None if stopping() else self._board.take(task, worker)
            if delivery is not None:
                do(delivery)
            elif (waiting := self._board.waiting_task(task)) is not None:
                with self._board.writing() as connection:
                    later = self._job(waiting.id, waiting.key, waiting.queue)
                    later = later.evolve(scheduled_at=utcnow() + timedelta(seconds=AGAIN_S))
                    self._app.job_manager.batch_defer_jobs([later], connection=_raw(connection))

    def _job(self, task: str, key: str, queue: str) -> Job:
        return Job(queue=queue, lock=key, queueing_lock=None, task_name=NAME, task_kwargs={"task": task})


def _raw(connection: sa.Connection) -> Any:
    """The driver's own connection, whose transaction it is."""
    return connection.connection.driver_connection
