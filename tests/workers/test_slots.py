"""Places that workers share."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.limits.gates import Gate
from xobackup.workers import schema
from xobackup.workers.records import Worker
from xobackup.workers.slots import SharedRoom, take_slots

POOL = Gate(key="pool p transfers", name="pool paris", what="transfers", room=2)
SR = Gate(key="sr s transfers", name="SR local", what="transfers", room=1)
OWN = Gate(key="process VMs", name="this process", what="VMs", room=9)


@pytest.fixture
def rooms(board):
    for name in ("a", "b"):
        beat(board, name)
    return SharedRoom(board, "a"), SharedRoom(board, "b")


def beat(board, name) -> None:
    told = Worker(id=name, site="", host="h", pid=1, version="1", slots=4, reach={})
    board.beat(told, now_s=0.0, up_s=1.0)


def used(board) -> list[str]:
    with board.writing() as connection:
        return sorted(row.place for row in connection.execute(sa.select(schema.slots.c.place)))


def test_who_needs_several_gets_all_or_waits_and_a_cancelled_one_holds_nothing(board, rooms) -> None:
    a, b = rooms
    said, cancel = [], CancelToken()

    def tell(reason: str) -> None:
        said.append(reason)
        cancel.cancel("enough")

    with a.through((POOL, SR, OWN), CancelToken(), told=said.append):
        assert used(board) == ["pool p transfers", "sr s transfers"]
        with pytest.raises(Cancelled), b.through((POOL, SR), cancel, told=tell):
            raise AssertionError("there is no room")
        assert said == ["SR local: 1 of 1 transfers by all workers"]
        assert used(board) == ["pool p transfers", "sr s transfers"], "not even the place at the pool"
        with b.through((POOL,), CancelToken(), told=said.append):
            assert take_slots(board, "b", "t", [(POOL, 1)]) == "pool paris: 2 of 2 transfers by all workers"
    assert used(board) == []


def test_who_waits_goes_on_when_the_other_is_done_or_dead(board, rooms) -> None:
    a, b = rooms
    waits, done = threading.Event(), threading.Event()

    def other() -> None:
        with b.through((SR,), CancelToken(), told=lambda _: waits.set()):
            done.set()

    with a.through((SR,), CancelToken(), told=lambda _: None):
        thread = threading.Thread(target=other)
        thread.start()
        assert waits.wait(20) and not done.is_set()
    thread.join(20)
    assert done.is_set()
    assert take_slots(board, "a", "of the dead", [(SR, 1)]) == ""
    with board.writing() as connection:
        old = sa.update(schema.workers).where(schema.workers.c.id == "a")
        connection.execute(old.values(seen=schema.workers.c.seen - 100))
    with b.through((SR,), CancelToken(), told=lambda _: None):
        board.reap()
        assert used(board) == ["sr s transfers"]
