"""What VMs of a run were given of the remotes it spreads them over, whoever does them."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from remotes.contract import Usage
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.placing.given import Given
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.given import BoardGiven
from xobackup.workers.records import Worker
from xobackup.workers.sharing_schema import given as table
from xobackup.workers.slots import SharedRoom

USAGE = Usage(total_bytes=1000, free_bytes=600, storage="device 7")


@pytest.fixture
def two(board):
    board.begin_run("r", job="nightly", host="h")
    for name in ("a", "b"):
        one = Worker(id=name, site="", host="h", pid=1, version="1", slots=1, reach={})
        board.beat(one, now_s=0.0, up_s=1.0)
    return [Given(BoardGiven(board, "r", SharedRoom(board, name), CancelToken())) for name in ("a", "b")]


def test_what_one_worker_gave_the_other_counts_until_the_attempt_ends(two, board) -> None:
    one, other = two
    one.give("web", "nas", USAGE, 200)
    assert other.left("db", "nas", USAGE) == 400 and other.count("nas") == 1
    assert one.left("web", "nas", USAGE) == 600, "its own is not in its way"
    assert other.left("db", "else", Usage(total_bytes=9, free_bytes=5)) == 5, "another storage"
    one.release("web")
    assert other.left("db", "nas", USAGE) == 600 and other.count("nas") == 1
    one.give("web", "second", USAGE, 700)
    assert other.count("nas") == 0 and other.count("second") == 1 and other.left("db", "nas", USAGE) == 0
    board.begin_run("later", job="nightly", host="h")
    board.end_run("r")
    BoardGiven(board, "later", SharedRoom(board, "a"), CancelToken()).give("web", "nas", "s", 1)
    with board.writing() as connection:
        assert [row.run for row in connection.execute(sa.select(table.c.run))] == ["later"], (
            "what is over is forgotten"
        )


def test_one_at_a_time_decides(two) -> None:
    one, other = two
    inside, entered = threading.Event(), threading.Event()

    def decide() -> None:
        inside.set()
        with other.deciding():
            entered.set()

    with one.deciding():
        thread = threading.Thread(target=decide)
        thread.start()
        assert inside.wait(20) and not entered.wait(0.2)
    thread.join(20)
    assert entered.is_set()


def test_while_the_database_is_away_each_knows_its_own(two, board, monkeypatch) -> None:
    def away() -> None:
        raise BoardUnavailable("sqlite://", "gone")

    monkeypatch.setattr(board, "writing", away)
    monkeypatch.setattr(board, "reading", away)
    one, other = two
    one.give("web", "nas", USAGE, 200)
    assert one.left("db", "nas", USAGE) == 400 and other.left("db", "nas", USAGE) == 600
    assert one.count("nas") == 1 and other.count("nas") == 0
    one.release("web")
    assert one.left("db", "nas", USAGE) == 600


def test_who_shall_stop_waits_no_longer_for_his_turn(two, board) -> None:
    cancel = CancelToken()
    other = Given(BoardGiven(board, "r", SharedRoom(board, "b"), cancel))
    with two[0].deciding():
        cancel.cancel("enough")
        with pytest.raises(Cancelled), other.deciding():
            raise AssertionError("it is another's turn")
