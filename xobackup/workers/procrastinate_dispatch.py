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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import ProcrastinateException
from procrastinate.jobs import Job
from procrastinate.utils import utcnow

from xobackup.workers.bounded import CONNECT_S, SETTINGS, TCP, BoundedAsyncConnection
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
        there = sa.text("SELECT args->>'task' FROM procrastinate_jobs WHERE task_name = :name AND status = 'todo'")
        known = {row[0] for row in connection.execute(there, {"name": NAME})}
        return [task for task in tasks if task not in known]

    def close(self) -> None:
        """The connections are the board's."""

    def serve(self, worker: str, queues: Sequence[str], slots: int, do: Do, stopping: Callable[[], bool]) -> None:
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what matters of it the board tells
        pause = threading.Event()
        hands = Hands(slots, lambda task: self._do(task, worker, do, stopping))
        with hands:
            while not stopping():
                if hands.free and self._is_there():
                    with suppress(ProcrastinateException, psycopg.Error, OSError):
                        asyncio.run(self._serve(worker, list(queues), hands, stopping))
                if not stopping():
                    pause.wait(AGAIN_S)  # the server went away, or nothing is free

    def _is_there(self) -> bool:
        assert self._board is not None
        try:
            self._board.waiting()
        except BoardUnavailable:
            return False
        return True

    async def _serve(self, worker: str, queues: list[str], hands: Hands, stopping: Callable[[], bool]) -> None:
        """Until ``stopping``, or the connection is lost, or a hand that was busy from before is free again. What goes
        on then is let go: its job ends, its thread does not."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # the end of a job that was freed meanwhile
        slots, before, leaving = hands.free, hands.busy, asyncio.Event()
        connector = self._connector(slots)
        app = App(connector=connector)
        app.add_tasks_from(blueprint(), namespace=NAMESPACE)
        async with app.open_async():
            serving = app._worker(
                queues=queues,
                name=worker,
                concurrency=slots,
                fetch_job_polling_interval=LOOK_S,
                delete_jobs="always",
                install_signal_handlers=False,
                additional_context={"do": lambda task: hands.do(task, leaving)},
            )
            running = asyncio.create_task(serving.run())  # type: ignore[no-untyped-call]
            try:
                while not running.done():
                    if stopping():
                        serving.stop()  # type: ignore[no-untyped-call]
                    elif connector.lost or not before <= hands.busy:
                        leaving.set()
                        serving.stop()  # type: ignore[no-untyped-call]
                    await asyncio.wait([running], timeout=STOP_LOOK_S)
                await running
            finally:
                leaving.set()

    def _connector(self, slots: int) -> LosableConnector:
        """Its connections bounded as the board's are."""
        return LosableConnector(
            conninfo=self._conninfo,
            min_size=1,
            max_size=slots + 3,
            timeout=CONNECT_S,
            reconnect_timeout=CONNECT_S,
            kwargs=TCP,
            connection_class=BoundedAsyncConnection,
            configure=_configured,
        )

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


class LosableConnector(PsycopgConnector):
    """Remembers that a connection was lost: Procrastinate's worker would first wait for everything that it does."""

    lost = False

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        with self._noticed():
            await super().execute_query_async(query, **arguments)

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        with self._noticed():
            found: dict[str, Any] = await super().execute_query_one_async(query, **arguments)
            return found

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        with self._noticed():
            found: list[dict[str, Any]] = await super().execute_query_all_async(query, **arguments)
            return found

    async def listen_notify(self, on_notification: Any, channels: Any) -> None:
        with self._noticed():
            await super().listen_notify(on_notification, channels)

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except ProcrastinateException as error:
            self.lost = self.lost or isinstance(error.__cause__, psycopg.OperationalError)
            raise


class Hands:
    """The threads that do tasks, however often the server is lost meanwhile. Left when all have ended."""

    def __init__(self, slots: int, do: Callable[[str], None]) -> None:
        self._slots = slots
        self._do = do
        self._threads = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="task")
        self._going: set[Future[None]] = set()

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    @property
    def busy(self) -> frozenset[Future[None]]:
        self._going = {one for one in self._going if not one.done()}
        return frozenset(self._going)

    @property
    def free(self) -> int:
        return max(0, self._slots - len(self.busy))

    async def do(self, task: str, leaving: asyncio.Event) -> None:
        """Do it to its end; or until ``leaving``, and it goes on by itself. What comes after that is not begun: the
        reaper sends it again."""
        if leaving.is_set():
            return
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def ended(_future: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop is gone: it was let go
                loop.call_soon_threadsafe(over.set)

        going = self._threads.submit(self._do, task)
        self._going.add(going)
        going.add_done_callback(ended)
        waits = [asyncio.create_task(one.wait()) for one in (over, leaving)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()


async def _configured(connection: psycopg.AsyncConnection[Any]) -> None:
    for setting in SETTINGS:
        await connection.execute(setting)
    await connection.commit()


def _raw(connection: sa.Connection) -> Any:
    """The driver's own connection, whose transaction it is."""
    return connection.connection.driver_connection
