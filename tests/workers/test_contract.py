"""What every way to bring tasks to workers must do; both do it (:mod:`xobackup.workers.dispatch`)."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from xobackup.clock import SystemClock
from xobackup.workers import schema
from xobackup.workers.errors import TaskLost, WorkersError
from xobackup.workers.opening import open_board
from xobackup.workers.records import ANYWHERE, DELIVERIES_MAX, RUN_KEPT_S, Task, Worker

LOOKS_MAX = 250
PAUSE = threading.Event()


def worker(name: str, **fields) -> Worker:
    told = {"site": "", "host": name, "pid": 1, "version": "1", "slots": 2, "reach": {"pools": ["p"]}, **fields}
    return Worker(id=name, **told)


def beat(board, *names, **fields) -> None:
    for name in names:
        board.beat(worker(name, **fields), now_s=SystemClock().now_s(), up_s=1.0)


def tasks(run: str, count: int, *, keys: int, queue: str = ANYWHERE) -> list[Task]:
    return [
        Task(id=f"{run}-{n:03d}", run=run, key=f"vm-{n % keys}", queue=queue, order={"n": n}) for n in range(count)
    ]


def age(board, table, seconds: float = 100.0) -> None:
    """So much time passes without a sign of life."""
    with board.writing() as connection:
        connection.execute(sa.update(table).values(seen=table.c.seen - seconds))


def gather(board, run: str, count: int) -> tuple[dict, list]:
    """Every end of a run's tasks, and every word."""
    ended, words = {}, []
    for _ in range(LOOKS_MAX):
        if len(ended) == count:
            break
        PAUSE.wait(0.02)
        news = board.news(run)
        board.heard(run, news)
        words += news.words
        for task, result in news.ended:
            assert task not in ended, "an end is told once"
            ended[task] = result
    assert len(ended) == count, (len(ended), board.waiting())
    return ended, words


def test_every_task_is_done_once_and_never_two_of_a_key_at_a_time(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    beat(board, "a", "b")
    busy, most, guard, stop = {}, [], threading.Lock(), threading.Event()

    def do(delivery) -> None:
        key = delivery.task.key
        with guard:
            busy[key] = busy.get(key, 0) + 1
            most.append(busy[key])
        board.tell(delivery, [{"kind": "began"}])
        board.tell(delivery, [{"kind": "going"}, {"kind": "ended"}])
        with guard:
            busy[key] -= 1
        board.end(delivery, {"by": delivery.worker})

    with ThreadPoolExecutor(2) as threads:
        serving = [threads.submit(board.dispatch.serve, name, [ANYWHERE], 4, do, stop.is_set) for name in ("a", "b")]
        board.put(tasks("r", 20, keys=7))
        try:
            ended, words = gather(board, "r", 20)
        finally:
            stop.set()
        for one in serving:
            one.result()
    assert set(most) == {1} and len(most) == 20
    assert {result["by"] for result in ended.values()} <= {"a", "b"}
    for task in ended:
        assert [word.event["kind"] for word in words if word.task == task] == ["began", "going", "ended"]
    board.end_run("r")
    assert board.waiting() == {}


def test_a_worker_that_was_not_heard_of_loses_its_task_and_its_word_counts_no_more(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    beat(board, "zombie")
    board.put(tasks("r", 1, keys=1))
    old = board.take("r-000", "zombie")
    assert old.number == 1 and board.standing(old)
    assert board.take("r-000", "other") is None
    assert board.reap() == []
    age(board, schema.workers)
    beat(board, "other")
    assert [(task.id, lost) for task, lost in board.reap()] == [("r-000", "zombie")]
    with pytest.raises(TaskLost):
        board.standing(old)
    stop, done = threading.Event(), []

    def do(delivery) -> None:
        with pytest.raises(TaskLost):
            board.tell(old, [{"kind": "late"}])
        with pytest.raises(TaskLost):
            board.end(old, {"by": "zombie"})
        board.end(delivery, {"by": delivery.worker})
        done.append(delivery.number)
        stop.set()

    board.dispatch.serve("other", [ANYWHERE], 1, do, stop.is_set)
    ended, words = gather(board, "r", 1)
    assert done == [2] and ended == {"r-000": {"by": "other"}}
    assert [word.event["kind"] for word in words] == ["worker-lost"]
    with pytest.raises(TaskLost):
        board.end(old, {"by": "zombie"})


def test_a_task_that_kills_its_workers_ends(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    board.put(tasks("r", 1, keys=1))
    for number in range(1, DELIVERIES_MAX + 1):
        beat(board, f"w{number}")
        assert board.take("r-000", f"w{number}").number == number
        age(board, schema.workers)
        assert len(board.reap()) == (number < DELIVERIES_MAX)
    ended, _ = gather(board, "r", 1)
    assert ended == {"r-000": {"lost": f"w{DELIVERIES_MAX}", "deliveries": DELIVERIES_MAX}}


def test_what_a_living_worker_dropped_waits_again(board) -> None:
    """Its database was away when it said so, or its process threw it away."""
    board.begin_run("r", job="nightly", host="h")
    beat(board, "a")
    board.put(tasks("r", 2, keys=2))
    kept, dropped = board.take("r-000", "a"), board.take("r-001", "a")
    with board.writing() as connection:
        board.dispatch.free(connection, ["r-000", "r-001"])
        connection.execute(sa.update(schema.tasks).values(taken=schema.tasks.c.taken - 60))
    board.beat(worker("a"), now_s=0.0, up_s=1.0, doing=["r-000"])
    assert board.standing(kept) and board.waiting() == {ANYWHERE: 1}
    with pytest.raises(TaskLost):
        board.end(dropped, {})
    with board.writing() as connection:
        connection.execute(sa.update(schema.tasks).values(taken=schema.tasks.c.taken - 60))
    board.reap(missing=True)
    stop, seen = threading.Event(), []

    def do(delivery) -> None:
        seen.append(delivery.task.id)
        board.end(delivery, {})
        stop.set()

    board.dispatch.serve("a", [ANYWHERE], 1, do, stop.is_set)
    assert seen == ["r-001"]


def test_what_is_withdrawn_is_not_begun_and_keeps_no_key(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    beat(board, "a")
    board.put([*tasks("r", 1, keys=1, queue="nobody"), *tasks("x", 1, keys=1)])
    assert board.withdraw("r") == ["r-000"]
    board.begin_run("x", job="nightly", host="h")
    stop = threading.Event()
    seen = []

    def do(delivery) -> None:
        seen.append(delivery.task.id)
        assert board.withdraw("x") == [] and not board.standing(delivery), "asked to stop"
        board.end(delivery, {})
        stop.set()

    board.dispatch.serve("a", [ANYWHERE], 1, do, stop.is_set)
    assert seen == ["x-000"]


def test_a_worker_that_drains_ends_what_it_began_and_begins_nothing(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    beat(board, "a")
    board.put(tasks("r", 3, keys=3))
    stop = threading.Event()

    def do(delivery) -> None:
        stop.set()
        time.sleep(0)
        board.end(delivery, {"drained": stop.is_set()})

    board.dispatch.serve("a", [ANYWHERE], 1, do, stop.is_set)
    ended, _ = gather(board, "r", 1)
    assert list(ended.values()) == [{"drained": True}] and board.waiting() == {ANYWHERE: 2}


def test_a_run_whose_control_node_is_gone_is_over(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    beat(board, "a")
    board.put(tasks("r", 2, keys=2))
    going = board.take("r-000", "a")
    age(board, schema.runs)
    assert board.take("r-001", "a") is None
    board.reap()
    assert board.waiting() == {}
    board.tell(going, [{"kind": "going on"}])
    board.end(going, {})
    news = board.news("r")
    assert [word.event["kind"] for word in news.words] == ["going on"] and news.ended == (("r-000", {}),)
    assert board.beat_run("r"), "it may come back, and finds what was said"
    age(board, schema.runs, 2 * RUN_KEPT_S)
    board.reap()
    assert not board.beat_run("r")
    with board.writing() as connection:
        for table in (schema.tasks, schema.events, schema.runs):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0


def test_what_was_said_stays_until_it_was_acknowledged(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    beat(board, "a")
    board.put(tasks("r", 2, keys=2))
    first, second = board.take("r-000", "a"), board.take("r-001", "a")
    board.tell(first, [{"kind": "one"}, {"kind": "two"}])
    board.end(first, {"well": True})
    news = board.news("r")
    assert [word.event["kind"] for word in news.words] == ["one", "two"] and news.ended == (
        ("r-000", {"well": True}),
    )
    assert board.news("r") == news and board.knows("r-000"), "its reader may have died before he wrote it down"
    board.tell(second, [{"kind": "three"}])
    board.heard("r", news)
    assert [word.event["kind"] for word in board.news("r").words] == ["three"] and not board.news("r").ended
    assert not board.knows("r-000") and board.knows("r-001")
    board.heard("r", news)
    assert len(board.news("r").words) == 1


def test_a_task_that_its_worker_gives_back_waits_again(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    board.put(tasks("r", 1, keys=1))
    stop, numbers = threading.Event(), []

    def do(delivery) -> None:
        numbers.append(delivery.number)
        if len(numbers) < 2:
            board.give_back(delivery)
            with pytest.raises(TaskLost):
                board.give_back(delivery)
            return
        board.end(delivery, {"by": delivery.worker})
        stop.set()

    beat(board, "a")
    board.dispatch.serve("a", [ANYWHERE], 1, do, stop.is_set)
    ended, words = gather(board, "r", 1)
    assert numbers == [1, 2] and ended == {"r-000": {"by": "a"}}
    assert [word.event["kind"] for word in words] == ["worker-lost"]


def test_the_task_of_a_new_run_waits_for_what_is_done_for_a_dead_one(board) -> None:
    board.begin_run("dead", job="nightly", host="h")
    beat(board, "a", "b")
    board.put(tasks("dead", 1, keys=1))
    going, stop, done = threading.Event(), threading.Event(), []
    leave = threading.Event()

    def do(delivery) -> None:
        if delivery.task.run == "dead":
            going.set()
            assert leave.wait(20)
        done.append(delivery.task.run)
        board.end(delivery, {})
        if delivery.task.run == "new":
            stop.set()

    with ThreadPoolExecutor(2) as threads:
        serving = [threads.submit(board.dispatch.serve, name, [ANYWHERE], 2, do, stop.is_set) for name in ("a", "b")]
        assert going.wait(20)
        age(board, schema.runs)
        board.reap()
        board.begin_run("new", job="nightly", host="other")
        board.put(tasks("new", 1, keys=1))
        assert board.take("new-000", "b") is None, "the same VM"
        leave.set()
        for one in serving:
            one.result()
    assert done == ["dead", "new"]


def test_who_lives_with_which_clock(board) -> None:
    board.beat(worker("a", site="paris", slots=3), now_s=SystemClock().now_s() + 90, up_s=60.0)
    beat(board, "b", draining=True)
    a, b = sorted(board.workers(), key=lambda one: one.worker.id)
    assert a.alive and a.worker.site == "paris" and a.worker.reach == {"pools": ["p"]}
    assert 85 < a.skew_s < 95 and 55 < a.up_s < 65 and b.worker.draining
    age(board, schema.workers)
    assert not board.workers()[0].alive
    board.leave("a")
    assert [one.worker.id for one in board.workers()] == ["b"]


def test_tables_of_a_newer_version_are_refused(board, board_url) -> None:
    open_board(board_url).close()
    with board.writing() as connection:
        connection.execute(sa.update(schema.about).values(version=99))
    with pytest.raises(WorkersError, match="found version 99"):
        open_board(board_url)
