"""Rates shared by the board's database, over SQLite and PostgreSQL."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from xobackup.clock import FakeClock, SystemClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.limits.bandwidth import Timetable
from xobackup.engine.limits.fairness import GONE_S, SHARE_S
from xobackup.engine.limits.process import ProcessLimits
from xobackup.engine.throttle import Throttle
from xobackup.workers import schema
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.opening import open_board
from xobackup.workers.shares import IDLE_S, SharedRates
from xobackup.workers.sharing_schema import shares

RATE = 1_000_000.0


class Node:
    """One process, whose words are said when the test says so."""

    def __init__(self, board, name: str, *, goes_on: bool = False) -> None:
        self.clock = FakeClock()
        self.rates = SharedRates(board, name, self.clock, goes_on=goes_on)
        self.share = self.rates.of("all jobs")

    def may(self) -> float:
        return self.share.rate(RATE)

    def word(self) -> float:
        """It would transfer as much as it may, and says so."""
        self.may()
        self.share.passes(1)
        self.share.waits()
        self.rates.renew()
        return self.may()


def rows(board) -> list[str]:
    with board.writing() as connection:
        return sorted(row.holder for row in connection.execute(sa.select(shares.c.holder)))


def time_passes(board, seconds: float, *nodes: Node) -> None:
    """At the database and at these."""
    with board.writing() as connection:
        connection.execute(sa.update(shares).values(until=shares.c.until - seconds, gone=shares.c.gone - seconds))
    for node in nodes:
        node.clock.advance(seconds)


def test_processes_share_a_rate_and_who_is_cut_off_keeps_his_part_until_he_is_dead(board) -> None:
    a, b, c = (Node(board, name) for name in "abc")
    assert a.may() == 0.0, "nobody said anything yet"
    assert a.word() == pytest.approx(RATE)
    assert b.word() == 0.0 and a.word() == b.word() == pytest.approx(RATE / 2)
    c.word()
    assert [node.word() for node in (a, b, c)] == pytest.approx([RATE / 3] * 3)
    time_passes(board, SHARE_S + 1, a, b, c)
    assert a.word() + b.word() == pytest.approx(RATE * 2 / 3), "what is left beside the part of the one cut off"
    assert a.word() + b.word() + c.may() <= RATE * 1.000001
    time_passes(board, GONE_S, a, b, c)
    assert c.may() == 0.0, "its tasks were given to others"
    a.word(), b.word()
    assert a.word() == b.word() == pytest.approx(RATE / 2)


def test_what_is_not_used_and_whoever_has_ended_is_given_back(board) -> None:
    a, b = Node(board, "a"), Node(board, "b")
    a.word(), b.word(), a.word()
    assert rows(board) == ["a/1", "b/1"]
    b.clock.advance(IDLE_S + 1)
    b.rates.renew()
    assert rows(board) == ["a/1"] and b.may() == 0.0 and a.word() == pytest.approx(RATE)
    del a.share
    gc.collect()
    a.rates.renew()
    assert rows(board) == []
    b.word()
    b.rates.close()
    assert rows(board) == []


def test_a_database_whose_clock_went_back_forgets_what_lies_ahead(board) -> None:
    a, b = Node(board, "a"), Node(board, "b")
    a.word()
    time_passes(board, -3600.0)
    assert b.word() == pytest.approx(RATE), "whoever holds that will say his word again"
    assert a.word() == 0.0


def test_who_needs_little_leaves_the_rest_to_others(board) -> None:
    a, b = Node(board, "a"), Node(board, "b")
    for _ in range(6):
        a.may(), a.share.passes(10_000)
        a.clock.advance(1.0)
        a.rates.renew()
        b.word()
    assert b.may() > 0.8 * RATE and a.may() >= 10_000


def test_a_database_that_is_away_costs_a_control_node_no_more_than_a_wait(board, monkeypatch) -> None:
    node, worker = Node(board, "a", goes_on=True), Node(board, "w")
    worker.may()
    monkeypatch.setattr(board, "writing", _away)
    with pytest.raises(BoardUnavailable):
        node.word()
    assert node.may() == 0.0
    for one in (node, worker):
        one.clock.advance(GONE_S + 1)
    assert node.may() == RATE and worker.may() == 0.0
    other = node.rates.of("remote nas")
    assert other.rate(RATE) == RATE, "what begins later need not wait for that again"
    monkeypatch.undo()
    assert node.word() == pytest.approx(RATE)
    assert node.rates.of("remote nas").rate(RATE) == 0.0, "the database is back: it is asked first"


def _away() -> None:
    raise BoardUnavailable("sqlite://", "gone")


def test_boards_that_speak_at_once_never_hold_more_than_the_rate(board_url) -> None:
    """Three processes' boards, in threads, and one that looks."""
    boards = [open_board(board_url) for _ in range(4)]
    nodes = [Node(board, name) for board, name in zip(boards, "abc", strict=False)]
    sums, ended = [], threading.Event()

    def look() -> None:
        while not ended.is_set():
            with boards[3].writing() as connection:
                sums.append(connection.execute(sa.select(sa.func.sum(shares.c.share))).scalar() or 0.0)

    try:
        with ThreadPoolExecutor(4) as threads:
            looking = threads.submit(look)
            talking = [threads.submit(lambda one: [one.word() for _ in range(15)], node) for node in nodes]
            for one in talking:
                one.result()
            ended.set()
            looking.result()
        assert sums and max(sums) <= RATE * 1.000001
        for node in nodes:
            node.word()
        assert [node.word() for node in nodes] == pytest.approx([RATE / 3] * 3)
    finally:
        ended.set()
        for opened in boards:
            opened.close()


def test_what_passes_through_several_throttles_is_the_rate(board) -> None:
    """Bytes, by a clock that moves only when somebody waits: each node's share of what one may have."""
    nodes = [Node(board, name) for name in "ab"]
    for _ in range(3):
        for node in nodes:
            node.word()
    passed = []
    for node in nodes:
        throttle, began_s, count = Throttle(Timetable(rate_bytes_s=RATE), node.clock, share=node.share), 0.0, 0
        began_s = node.clock.now_s()
        while node.clock.now_s() - began_s < SHARE_S - 1:
            throttle.take(50_000, CancelToken())
            count += 50_000
        passed.append(count / (node.clock.now_s() - began_s))
    assert sum(passed) == pytest.approx(RATE, rel=0.1)


def test_a_rate_that_is_not_shared_needs_no_database() -> None:
    limits = ProcessLimits(bandwidth=Timetable(rate_bytes_s=RATE))
    assert limits.share("all jobs") is None
    clock = FakeClock()
    throttle = limits.total(clock)
    assert throttle is not None and throttle.take(int(RATE), CancelToken()) == pytest.approx(1.0, rel=0.01)


def test_the_thread_says_the_first_word_at_once_and_gives_back_at_the_end(board) -> None:
    rates = SharedRates(board, "a", SystemClock(), goes_on=False)
    rates.start()
    share = rates.of("all jobs")
    throttle = Throttle(Timetable(rate_bytes_s=RATE * 1000), SystemClock(), share=share)
    throttle.take(1000, CancelToken())
    assert share.held and rows(board) == ["a/1"]
    rates.close()
    assert rows(board) == []


def test_tables_of_older_workers_are_as_they_were() -> None:
    """They go on beside newer ones: what is shared is in tables of its own."""
    assert schema.VERSION == 1
    assert {column.name for column in schema.slots.columns} == {"id", "place", "taken", "worker", "ticket"}
