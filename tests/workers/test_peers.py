"""How workers know each other, and who may be led where, by either database."""

from __future__ import annotations

import sqlalchemy as sa

from xobackup.relay.errors import Refused
from xobackup.workers import schema
from xobackup.workers.board import Board
from xobackup.workers.opening import open_board
from xobackup.workers.peers import BoardOfRelay, announce, led_to, living_peers, relays_of
from xobackup.workers.records import LEASE_S, Task, Worker

THROUGH = {"kind": "mirror", "through": {"nas-lyon": "lyon"}}


def living(board: Board, id: str, site: str, address: str = "", *, draining: bool = False) -> None:
    announce(board, id, address=address, certificate=f"certificate of {id}")
    worker = Worker(id=id, site=site, host="h", pid=1, version="1", slots=4, reach={}, draining=draining)
    board.beat(worker, now_s=0.0, up_s=0.0)


def age(board: Board, worker: str) -> None:
    with board.writing() as connection:
        table = schema.workers
        connection.execute(sa.update(table).where(table.c.id == worker).values(seen=table.c.seen - LEASE_S - 5))


def begun(board: Board, worker: str, order: dict[str, object]) -> None:
    board.begin_run("run", job="copies", host="h")
    board.put([Task(id="task", run="run", key="vm", queue="paris", order=order)])
    assert board.take("task", worker)


def test_who_lives_is_known_and_who_does_not_is_not(board: Board) -> None:
    announce(board, "new", address="", certificate="not heard of yet")
    living(board, "paris1", "paris")
    living(board, "lyon1", "lyon", "10.1.0.5:8483")
    living(board, "lyon2", "lyon", "10.1.0.6:8483", draining=True)
    assert {one.worker: (one.site, one.address, one.relays) for one in living_peers(board)} == {
        "paris1": ("paris", "", False),
        "lyon1": ("lyon", "10.1.0.5:8483", True),
        "lyon2": ("lyon", "10.1.0.6:8483", False),
    }
    assert [one.worker for one in relays_of(board, "lyon")] == ["lyon1"]
    age(board, "lyon1")
    assert [one.worker for one in relays_of(board, "lyon")] == ["lyon2"], "draining, but there"
    board.leave("lyon2")
    assert relays_of(board, "lyon") == [] and [one.worker for one in living_peers(board)] == ["paris1"]


def test_a_certificate_is_replaced_at_a_restart(board: Board) -> None:
    living(board, "w", "lyon", "a:1")
    announce(board, "w", address="a:2", certificate="another")
    (found,) = living_peers(board)
    assert (found.address, found.certificate) == ("a:2", "another")


def test_a_right_lasts_as_long_as_the_task_that_needs_it(board: Board) -> None:
    living(board, "paris1", "paris")
    relay = BoardOfRelay(board, site="lyon", gives=["nas-lyon", "other"])
    assert not relay.may("paris1", "nas-lyon")
    begun(board, "paris1", THROUGH)
    assert led_to(board, "paris1") == {("nas-lyon", "lyon")}
    assert relay.may("paris1", "nas-lyon")
    assert not relay.may("paris1", "other") and not relay.may("lyon1", "nas-lyon")
    assert not BoardOfRelay(board, site="rome", gives=["nas-lyon"]).may("paris1", "nas-lyon")
    assert not BoardOfRelay(board, site="lyon", gives=["other"]).may("paris1", "nas-lyon")
    age(board, "paris1")
    assert not relay.may("paris1", "nas-lyon"), "a worker that is not heard of"
    board.reap()
    assert led_to(board, "paris1") == set(), "its task was taken from it"


def test_orders_of_others_lead_nowhere(board: Board) -> None:
    living(board, "paris1", "paris")
    begun(board, "paris1", {"vm": "x", "through": ["nas-lyon"]})
    assert led_to(board, "paris1") == set()


def test_a_database_that_is_away_lets_nobody_in_and_says_so(tmp_path) -> None:
    board = open_board(f"sqlite:///{tmp_path}/engine.db")
    with board.writing() as connection:
        connection.execute(sa.text("DROP TABLE xobackup_peers"))
        connection.execute(sa.text("DROP TABLE xobackup_tasks"))
    relay = BoardOfRelay(board, site="lyon", gives=["nas-lyon"])
    for ask in (relay.living, lambda: relay.may("paris1", "nas-lyon"), lambda: relays_of(board, "lyon")):
        try:
            ask()
        except Refused as refused:
            assert refused.transient
        else:
            raise AssertionError("it was let in")
    board.close()


def test_tables_of_a_version_without_peers_are_completed(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/engine.db"
    board = open_board(url)
    with board.writing() as connection:
        connection.execute(sa.text("DROP TABLE xobackup_peers"))
    board.close()
    board = open_board(url)
    assert living_peers(board) == []
    board.close()
