"""The board: which tasks there are, who does them, what they say, and who lives. In SQLite or PostgreSQL.

* At most one task per key is being done, by a unique index: nobody can get round it, whatever sends the tasks.
* A delivery is numbered. Every word of a worker about a task names its delivery; when that is not the one that
  counts any more, nothing is written and :class:`TaskLost` is raised.
* A worker that was not seen for ``LEASE_S`` has lost its tasks: they are delivered again, up to ``DELIVERIES_MAX``
  times, then they end as failed.
* A run whose control node was not seen for twice that long begins nothing any more: what waits of it is withdrawn.
  What was said of it waits for ``RUN_KEPT_S``, and every word until its reader says that it is in the journal.

Times are by the database's clock, so nobody's own clock matters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from xobackup.workers import linked, reaping, schema
from xobackup.workers.errors import BoardUnavailable, TaskLost, WorkersError
from xobackup.workers.reaping import DROPPED_S, GONE_S, task_of
from xobackup.workers.records import LEASE_S, Delivery, News, Seen, Task, Word, Worker
from xobackup.workers.schema import DOING, DONE, TODO, WITHDRAWN

if TYPE_CHECKING:
    from xobackup.workers.dispatch import Dispatch


class Board:
    """One database; thread-safe. Made by :func:`xobackup.workers.opening.open_board`."""

    def __init__(self, engine: sa.Engine, dispatch: Dispatch) -> None:
        self.engine = engine
        self.dispatch = dispatch
        self.shown = engine.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The database's clock, for a statement."""
        if self.is_sqlite:
            return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Float)
        return sa.literal_column("extract(epoch from clock_timestamp())::float8", sa.Float)

    def close(self) -> None:
        self.dispatch.close()
        self.engine.dispose()

    # -- a control node's

    def begin_run(self, run: str, *, job: str, host: str) -> None:
        with self.writing() as connection:
            row = {"id": run, "job": job, "host": host, "seen": self.now}
            connection.execute(sa.insert(schema.runs).values(row))

    def beat_run(self, run: str) -> bool:
        """The control node lives. Whether the run is still known."""
        with self.writing() as connection:
            lives = sa.update(schema.runs).where(schema.runs.c.id == run).values(seen=self.now)
            return bool(connection.execute(lives).rowcount)

    def end_run(self, run: str) -> None:
        """Nobody waits for it any more. What is being done of it may end; its word goes nowhere."""
        with self.writing() as connection:
            reaping.forget_runs(self, connection, [run])

    def put(self, tasks: Sequence[Task]) -> None:
        """New tasks; they are sent."""
        with self.writing() as connection:
            now_s = connection.execute(sa.select(self.now)).scalar_one()
            fresh = {"state": TODO, "delivery": 0, "put": now_s, "due": now_s, "taken": now_s}
            rows = [
                {"id": one.id, "run": one.run, "key": one.key, "queue": one.queue, "order": dict(one.order), **fresh}
                for one in tasks
            ]
            if rows:
                connection.execute(sa.insert(schema.tasks), rows)
            self.dispatch.send(connection, tasks)

    def withdraw(self, run: str, tasks: Sequence[str] | None = None) -> list[str]:
        """Nobody shall begin these (all of the run when ``None``): returns those that wait no longer. Those that are
        being done are asked to stop (:meth:`standing`)."""
        table = schema.tasks
        chosen = [table.c.run == run] if tasks is None else [table.c.run == run, table.c.id.in_(tasks)]
        with self.writing() as connection:
            waiting = sa.update(table).where(*chosen, table.c.state == TODO).values(state=WITHDRAWN)
            gone = [row.id for row in connection.execute(waiting.returning(table.c.id))]
            going = sa.update(table).where(*chosen, table.c.state == DOING).values(due=-1.0)
            connection.execute(going)
            self.dispatch.free(connection, gone)
            return gone

    def news(self, run: str) -> News:
        """What was said and has not been acknowledged. For one reader per run."""
        table, told = schema.tasks, schema.events
        over = sa.select(table.c.id, table.c.result).where(table.c.run == run, table.c.state == DONE)
        with self.reading() as connection:  # most looks find nothing, and writers must not wait for them
            ended = [(row.id, row.result) for row in connection.execute(over)]  # first: its words are there by then
            words = connection.execute(sa.select(told).where(told.c.run == run).order_by(told.c.id)).all()
        return News(words=tuple(Word(id=row.id, task=row.task, event=row.event) for row in words), ended=tuple(ended))

    def heard(self, run: str, news: News) -> None:
        """These are where they belong: the board may forget them."""
        table, told = schema.tasks, schema.events
        if not news.words and not news.ended:
            return
        with self.writing() as connection:
            ids = [word.id for word in news.words]
            connection.execute(sa.delete(told).where(told.c.run == run, told.c.id.in_(ids)))
            over = [task for task, _ in news.ended]
            connection.execute(
                sa.delete(table).where(table.c.run == run, table.c.id.in_(over), table.c.state == DONE)
            )

    def knows(self, task: str) -> bool:
        """Whether it waits, is being done, or has an end that nobody acknowledged."""
        table = schema.tasks
        one = sa.select(table.c.id).where(table.c.id == task, table.c.state.in_((TODO, DOING, DONE)))
        with self.reading() as connection:
            return connection.execute(one).first() is not None

    # -- a worker's

    def beat(self, worker: Worker, *, now_s: float, up_s: float, doing: Collection[str] = ()) -> None:
        """The worker lives, and is doing these tasks (by id). Others that it took a while ago it has dropped, as its
        word did not get through: they wait again. ``now_s``: by its own clock."""
        row: dict[str, Any] = {name: getattr(worker, name) for name in ("site", "host", "pid", "version", "slots")}
        row |= {"draining": worker.draining, "reach": {key: list(names) for key, names in worker.reach.items()}}
        row |= {"since": self.now - up_s, "seen": self.now, "skew": sa.literal(now_s) - self.now}
        table = schema.workers
        with self.writing() as connection:
            if not connection.execute(sa.update(table).where(table.c.id == worker.id).values(row)).rowcount:
                connection.execute(sa.insert(table).values({"id": worker.id, **row}))
            tasks = schema.tasks
            its = [tasks.c.state == DOING, tasks.c.worker == worker.id, tasks.c.id.not_in(doing)]
            dropped = sa.select(tasks).where(*its, tasks.c.taken < self.now - DROPPED_S)
            rows = connection.execute(dropped).all()
            self.dispatch.free(connection, [one.id for one in rows])
            again = [reaping.begin_again(self, connection, one) for one in rows]
            self.dispatch.send(connection, [one for one in again if one is not None])

    def leave(self, worker: str) -> None:
        """It is gone, in good order."""
        with self.writing() as connection:
            connection.execute(sa.delete(schema.slots).where(schema.slots.c.worker == worker))
            connection.execute(sa.delete(schema.peers).where(schema.peers.c.worker == worker))
            connection.execute(sa.delete(schema.workers).where(schema.workers.c.id == worker))

    def next_task(self, queues: Sequence[str]) -> str | None:
        """The oldest that waits in one of these queues and whose key is free; for those who look by themselves."""
        table = schema.tasks
        doing = sa.select(table.c.key).where(table.c.state == DOING)
        waiting = sa.select(table.c.id).where(
            table.c.state == TODO, table.c.queue.in_(queues), table.c.due <= self.now, table.c.key.not_in(doing)
        )
        with self.reading() as connection:
            return connection.execute(waiting.order_by(table.c.put).limit(1)).scalar()

    def take(self, task: str, worker: str) -> Delivery | None:
        """Begin it. ``None``: somebody else does, or did, or another task of its key is being done, or it is not
        wanted any more."""
        table = schema.tasks
        begin = (
            sa.update(table)
            .where(table.c.id == task, table.c.state == TODO, self._run_lives())
            .values(state=DOING, worker=worker, delivery=table.c.delivery + 1, taken=self.now)
            .returning(table)
        )
        try:
            with self.writing() as connection:
                row = connection.execute(begin).one_or_none()
                if row is not None and linked.is_member(row.order):
                    linked.put_back(connection, row)
                    return None
                if row is not None and not linked.begun(self, connection, row):
                    raise _KeyBusy
        except _KeyBusy:
            linked.postpone(self, task)
            return None
        if row is None:
            return None
        return Delivery(task=task_of(row), number=row.delivery, worker=worker)

    def waiting_task(self, task: str) -> Task | None:
        """It, if it is to be begun by somebody, now or later."""
        table = schema.tasks
        one = sa.select(table).where(table.c.id == task, table.c.state == TODO, self._run_lives())
        with self.reading() as connection:
            row = connection.execute(one).one_or_none()
        return None if row is None else task_of(row)

    def tell(self, delivery: Delivery, events: Sequence[Mapping[str, Any]]) -> None:
        """Events of the task, for the journal of its run. Raises :class:`TaskLost`."""
        task = delivery.task
        with self.writing() as connection:
            self._own(connection, delivery)
            rows = [{"run": task.run, "task": task.id, "at": self.now, "event": dict(event)} for event in events]
            for row in rows:
                connection.execute(sa.insert(schema.events).values(row))

    def end(self, delivery: Delivery, result: Mapping[str, Any]) -> None:
        """The task is done, well or badly. Raises :class:`TaskLost`."""
        with self.writing() as connection:
            self._own(connection, delivery)
            done = sa.update(schema.tasks).where(schema.tasks.c.id == delivery.task.id)
            connection.execute(done.values(state=DONE, result=dict(result)))
            linked.ended(connection, delivery.task.order)
            self.dispatch.free(connection, [delivery.task.id])
            reaping.sweep(connection)

    def give_back(self, delivery: Delivery) -> None:
        """It was stopped because we were not heard of, and nobody else has it yet: it waits again, or ends as one
        that was lost too often. Raises :class:`TaskLost`."""
        table = schema.tasks
        with self.writing() as connection:
            row = connection.execute(sa.select(table).where(*self._of(delivery)).with_for_update()).one_or_none()
            if row is None:
                raise TaskLost(delivery.task.id)
            self.dispatch.free(connection, [row.id])
            again = reaping.begin_again(self, connection, row)
            self.dispatch.send(connection, [again] if again is not None else [])

    def standing(self, delivery: Delivery) -> bool:
        """Whether it shall go on; False: somebody asked to stop. Raises :class:`TaskLost`."""
        table = schema.tasks
        with self.reading() as connection:
            row = connection.execute(sa.select(table.c.due).where(*self._of(delivery))).one_or_none()
        if row is None:
            raise TaskLost(delivery.task.id)
        return bool(row.due >= 0)

    # -- everybody's

    def workers(self) -> list[Seen]:
        """Those that were heard of, by site and host."""
        table, tasks = schema.workers, schema.tasks
        with self.reading() as connection:
            now = self.now.label("now")
            rows = connection.execute(sa.select(table, now).order_by(table.c.site, table.c.host, table.c.since)).all()
            doing = connection.execute(sa.select(tasks.c.worker, tasks.c.order).where(tasks.c.state == DOING)).all()
        return [
            Seen(
                worker=Worker(
                    id=row.id,
                    site=row.site,
                    host=row.host,
                    pid=row.pid,
                    version=row.version,
                    slots=row.slots,
                    reach=row.reach,
                    draining=bool(row.draining),
                ),
                age_s=row.now - row.seen,
                up_s=row.now - row.since,
                skew_s=row.skew,
                doing=tuple(one.order for one in doing if one.worker == row.id and not linked.is_member(one.order)),
            )
            for row in rows
            if row.now - row.seen < GONE_S
        ]

    def alive(self) -> sa.Select[tuple[str]]:
        """The ids of the workers that live."""
        return sa.select(schema.workers.c.id).where(schema.workers.c.seen >= self.now - LEASE_S)

    def waiting(self) -> dict[str, int]:
        """How many tasks wait, by queue."""
        table = schema.tasks
        counted = sa.select(table.c.queue, sa.func.count()).where(table.c.state == TODO).group_by(table.c.queue)
        with self.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(counted)}

    def reap(self, *, missing: bool = False) -> list[tuple[Task, str]]:
        """Take tasks from workers that were not heard of, and forget runs without a control node. Returns what was
        sent again, with the worker it was taken from. Everybody may call it, as often as he likes.

        ``missing``: also send again what waits and was dropped on its way; a look at all that waits."""
        return reaping.reap(self, missing=missing)

    # -- inside

    def _run_lives(self) -> sa.ColumnElement[bool]:
        table, runs = schema.tasks, schema.runs
        return sa.exists().where(runs.c.id == table.c.run, runs.c.seen >= self.now - 2 * LEASE_S)

    def _of(self, delivery: Delivery) -> list[sa.ColumnElement[bool]]:
        table = schema.tasks
        ours = [table.c.id == delivery.task.id, table.c.state == DOING]
        return [*ours, table.c.delivery == delivery.number, table.c.worker == delivery.worker]

    def _own(self, connection: sa.Connection, delivery: Delivery) -> None:
        """The row is ours until the transaction ends, or :class:`TaskLost`."""
        held = sa.update(schema.tasks).where(*self._of(delivery)).values(worker=delivery.worker)
        if not connection.execute(held).rowcount:
            raise TaskLost(delivery.task.id)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """For looks: writers do not wait for them."""
        with self._errors(), self.engine.connect() as connection:
            yield connection.execution_options(writing=False)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or nothing."""
        with self._errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            if "xobackup_tasks_busy" in str(error.orig) or "xobackup_tasks.key" in str(error.orig):
                raise _KeyBusy from error
            raise BoardUnavailable(self.shown, _first_line(error)) from error
        except SQLAlchemyError as error:
            raise BoardUnavailable(self.shown, _first_line(error)) from error


class _KeyBusy(WorkersError):
    """Another task of the key is being done."""

    def __init__(self) -> None:
        super().__init__("another task of the key is being done")


def _first_line(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
