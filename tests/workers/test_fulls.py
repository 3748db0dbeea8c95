"""``unexpected_fulls_max`` over everybody who does VMs of a run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from xobackup.engine.errors import VmRefused
from xobackup.engine.fulls import FullsLimit
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.fulls import count_full, counting
from xobackup.workers.opening import open_board
from xobackup.workers.sharing_schema import fulls


def test_no_more_than_so_many_whoever_counts_and_each_once(board_url) -> None:
    boards = [open_board(board_url) for _ in range(3)]
    boards[0].begin_run("r", job="nightly", host="h")
    boards[0].begin_run("other", job="nightly", host="h")

    def claim(number: int) -> bool:
        return count_full(boards[number % 3], "r", f"vm-{number % 6}", 4)

    with ThreadPoolExecutor(6) as threads:
        done = dict(enumerate(threads.map(claim, range(12))))
    allowed = {number % 6 for number, yes in done.items() if yes}
    assert len(allowed) == 4
    assert all(claim(number) for number in allowed), "counted once"
    assert count_full(boards[1], "other", "vm-5", 1), "of another run"
    boards[0].end_run("r")
    assert not count_full(boards[1], "other", "vm-6", 1)
    with boards[0].writing() as connection:
        assert {row.run for row in connection.execute(sa.select(fulls.c.run))} == {"other"}, (
            "what is over is forgotten"
        )
    for one in boards:
        one.close()


def test_a_vm_that_would_be_too_many_is_refused_wherever_it_is_done(board) -> None:
    board.begin_run("r", job="nightly", host="h")
    limits = [FullsLimit(1, counting(board, "r", goes_on=False)) for _ in range(2)]
    limits[0].claim("a", "its base is gone")
    limits[0].claim("a", "its other base is gone")
    with pytest.raises(
        VmRefused, match="more than 1 VMs would unexpectedly be transferred whole; this one: its base"
    ):
        limits[1].claim("b", "its base is gone")
    FullsLimit(None, counting(board, "r", goes_on=False)).claim("c", "no limit is set")


def test_a_database_that_is_away_lets_the_control_node_count_for_itself(board, monkeypatch) -> None:
    def away() -> None:
        raise BoardUnavailable("sqlite://", "gone")

    monkeypatch.setattr(board, "writing", away)
    here = FullsLimit(1, counting(board, "r", goes_on=True))
    here.claim("a", "its base is gone")
    with pytest.raises(VmRefused, match="more than 1"):
        here.claim("b", "its base is gone")
    with pytest.raises(VmRefused, match="cannot be kept: engine database") as refused:
        FullsLimit(1, counting(board, "r", goes_on=False)).claim("a", "its base is gone")
    assert refused.value.transient
