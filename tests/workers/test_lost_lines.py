"""The line to the database is cut, or silent: nothing hangs, and what is brought is brought again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from xobackup.clock import SystemClock
from xobackup.workers import bounded
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.opening import open_board
from xobackup.workers.records import ANYWHERE, Task, Worker
from xotest.proxy import Line, Proxy, proxied

PAUSE = threading.Event()


@pytest.fixture
def line(empty_postgres, monkeypatch):
    """To the server; answers are waited for half a second."""
    monkeypatch.setattr(bounded, "CALL_S", 0.5)
    monkeypatch.setitem(bounded.TCP, "connect_timeout", 2)
    socket = Path(sa.make_url(empty_postgres).query["host"]) / ".s.PGSQL.5432"
    with proxied(socket) as made:
        yield made


@pytest.mark.parametrize("how", [Line.HELD, Line.CUT])
def test_a_call_ends_in_its_time_and_the_next_ones_are_well(line: Proxy, how: Line) -> None:
    board = open_board(line.postgres_url())
    assert board.waiting() == {}
    line.line = how
    for _ in range(2):  # a connection that was there, and a new one
        with pytest.raises(BoardUnavailable):
            board.waiting()
    with pytest.raises(BoardUnavailable):
        open_board(line.postgres_url())
    line.line = Line.OPEN
    assert board.waiting() == {}
    board.close()


def test_an_answer_that_does_not_come_is_told(line: Proxy) -> None:
    board = open_board(line.postgres_url())
    with pytest.raises(BoardUnavailable, match="did not answer within"), board.writing() as connection:
        line.line = Line.HELD
        connection.execute(sa.text("SELECT 1"))
    line.line = Line.OPEN
    board.close()


def test_who_is_stopped_in_the_middle_keeps_no_lock(empty_postgres, monkeypatch) -> None:
    monkeypatch.setattr(bounded, "SETTINGS", ("SET idle_in_transaction_session_timeout = '300ms'",))
    stopped, other = open_board(empty_postgres), open_board(empty_postgres)
    with pytest.raises(BoardUnavailable), stopped.writing() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(1)"))
        with other.writing() as waits:
            waits.execute(sa.text("SELECT pg_advisory_xact_lock(1)"))
        connection.execute(sa.text("SELECT 1"))
    stopped.close()
    other.close()


@pytest.mark.parametrize("how", [Line.HELD, Line.CUT])
def test_tasks_are_brought_again_while_what_was_begun_goes_on(line: Proxy, empty_postgres, how: Line) -> None:
    near, far = open_board(empty_postgres), open_board(line.postgres_url())
    near.begin_run("r", job="nightly", host="h")
    me = Worker(id="a", site="", host="a", pid=1, version="1", slots=2, reach={})
    near.beat(me, now_s=SystemClock().now_s(), up_s=1.0)
    begun, leave, stop = threading.Event(), threading.Event(), threading.Event()
    together, done = threading.Barrier(2), []

    def do(delivery) -> None:
        name = delivery.task.id
        if name == "long":
            begun.set()
            assert leave.wait(60)
        if name.startswith("pair"):
            together.wait(60)
        near.end(delivery, {})
        done.append(name)

    def put(*names: str) -> None:
        near.put([Task(id=name, run="r", key=name, queue=ANYWHERE, order={}) for name in names])

    with ThreadPoolExecutor(1) as threads:
        serving = threads.submit(far.dispatch.serve, "a", [ANYWHERE], 2, do, stop.is_set)
        try:
            put("long")
            assert begun.wait(60)
            line.line = how
            put("short")
            PAUSE.wait(1.5)
            assert done == []
            line.line = Line.OPEN
            while "short" not in done:
                near.reap(missing=True)
                near.beat_run("r")
                PAUSE.wait(0.05)
            assert done == ["short"], "the long one goes on"
            leave.set()
            put("pair-1", "pair-2")  # both slots are there again
            while len(done) < 4:
                near.beat_run("r")
                PAUSE.wait(0.05)
        finally:
            leave.set()
            stop.set()
        serving.result()
    assert set(done) == {"long", "short", "pair-1", "pair-2"}
    with near.reading() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM procrastinate_jobs")).scalar() == 0, "no key is kept"
    near.close()
    far.close()
