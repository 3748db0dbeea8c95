"""Processes that are no workers: their places count with those of workers."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from xobackup.clock import SystemClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.limits.bandwidth import Timetable
from xobackup.engine.limits.gates import Gate
from xobackup.engine.limits.process import ProcessLimits
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.members import Member, Membership, beat_member, leave_member
from xobackup.workers.opening import open_board
from xobackup.workers.records import Worker
from xobackup.workers.sharing_schema import member_slots, members
from xobackup.workers.slots import SharedRoom, take_slots

SR = Gate(key="sr s transfers", name="SR local", what="transfers", room=1)


def member(name: str) -> Member:
    return Member(id=name, site="paris", host="h", pid=1, version="1")


def test_a_control_node_and_a_worker_wait_for_each_other_and_it_is_no_worker(board) -> None:
    beat_member(board, member("control"), up_s=1.0)
    board.beat(Worker(id="w", site="", host="h", pid=1, version="1", slots=1, reach={}), now_s=0.0, up_s=1.0)
    with SharedRoom(board, "control", member=True).through((SR,), CancelToken(), told=lambda _: None):
        assert take_slots(board, "w", "t", [(SR, 1)]) == "SR local: 1 of 1 transfers by all workers"
        board.reap()
        assert take_slots(board, "w", "t", [(SR, 1)]) != "", "the reaper of workers leaves it alone"
    assert take_slots(board, "w", "t", [(SR, 1)]) == ""
    assert take_slots(board, "control", "m", [(SR, 1)], member=True) != ""
    assert [one.worker.id for one in board.workers()] == ["w"]


def test_places_of_a_dead_control_node_are_free(board) -> None:
    beat_member(board, member("dead"), up_s=1.0)
    assert take_slots(board, "dead", "t", [(SR, 1)], member=True) == ""
    with board.writing() as connection:
        connection.execute(sa.update(members).values(seen=members.c.seen - 100))
    beat_member(board, member("other"), up_s=1.0)
    assert take_slots(board, "other", "u", [(SR, 1)], member=True) == ""
    leave_member(board, "other")
    with board.writing() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(member_slots)).scalar() == 0


def test_a_membership_holds_limits_over_all_and_leaves_nothing(board, board_url) -> None:
    limits = ProcessLimits(bandwidth=Timetable(rate_bytes_s=1e9))
    alone = limits.total(SystemClock())
    membership = Membership(open_board(board_url), member("m"), SystemClock(), tell=lambda _: None)
    membership.join()
    membership.hold(limits)
    assert limits.total(SystemClock()) is not alone, "what begins from now on shares"
    with limits.room.through((SR,), CancelToken(), told=lambda _: None):
        assert "1 of 1" in take_slots(board, "w", "t", [(SR, 1)])
    limits.total(SystemClock()).take(1000, CancelToken())
    membership.leave()
    with board.writing() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(members)).scalar() == 0


@pytest.mark.parametrize("is_member", [True, False])
def test_only_a_member_goes_on_when_the_database_stays_away(board, monkeypatch, is_member) -> None:
    monkeypatch.setattr("xobackup.workers.slots.LOOK_S", 0.01)
    monkeypatch.setattr("xobackup.workers.slots.LEASE_S", 0.05)
    monkeypatch.setattr(board, "writing", _away)
    room, cancel, said, inside = SharedRoom(board, "x", member=is_member), CancelToken(), [], []

    def tell(what: str) -> None:
        said.append(what)
        if not is_member:
            cancel.cancel("enough")

    try:
        with room.through((SR,), cancel, told=tell):
            inside.append(True)
    except Cancelled:
        pass
    assert bool(inside) is is_member and "gone" in said[0]


def _away() -> None:
    raise BoardUnavailable("sqlite://", "gone")
