"""What every store of schedules must do (:mod:`xobackup.service.store`): the file, and the database nodes share."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from xobackup.clock import FakeClock, SystemClock, utc
from xobackup.service.shared import SharedStore, StoreAway, change_paused_shared, look_at_shared
from xobackup.service.state import AlreadyServed, StateFile, look_at_state
from xobackup.service.store import Begun, ScheduleStore
from xobackup.workers import node_tables as tables
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.nodes import Node, nodes_of
from xobackup.workers.opening import open_board

HOUR = timedelta(hours=1)
NODES = 4


class Stores:
    """Makes stores; closes them."""

    def __init__(self, directory, url: str | None) -> None:
        self.directory, self.url = directory, url
        self.made: list[ScheduleStore] = []

    def open(self, name: str = "a", *, clock=None, lease_s: float = 60.0) -> ScheduleStore:
        directory = self.directory / name
        if self.url is None:
            store: ScheduleStore = StateFile(directory, clock)
        else:
            number = len(self.made)
            me = Node(id=f"{name}{number}", host=name, pid=number, version="1", lease_s=lease_s, plan={})
            url = self.url
            store = SharedStore(directory, lambda: open_board(url), me, clock=clock or SystemClock())
        self.made.append(store)
        return store

    def kill(self, store: ScheduleStore) -> None:
        """Its process is gone: its lock is free, and it says nothing any more."""
        store._lock.close()  # type: ignore[attr-defined]
        board = getattr(store, "_board", None)
        if board is not None:
            board.close()
        self.made.remove(store)

    def pass_time(self, host: str, seconds: float = 100.0) -> None:
        """So long nothing was heard of the nodes there."""
        assert self.url is not None
        board = open_board(self.url)
        with board.writing() as connection:
            old = sa.update(tables.nodes).where(tables.nodes.c.host == host)
            connection.execute(old.values(seen=tables.nodes.c.seen - seconds))
        board.close()


def stores_of(request: pytest.FixtureRequest, directory: Path) -> Iterator[Stores]:
    url = {"file": None, "sqlite": f"sqlite:///{directory / 'engine.db'}"}
    made = Stores(
        directory, url[request.param] if request.param in url else request.getfixturevalue("empty_postgres")
    )
    yield made
    for store in made.made:
        store.close()


@pytest.fixture(params=["file", "sqlite", "postgres"])
def stores(request, tmp_path):
    yield from stores_of(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request, tmp_path):
    yield from stores_of(request, tmp_path)


def followed(store: ScheduleStore, *names: str) -> ScheduleStore:
    store.meet(dict.fromkeys(names, "1"), set(names))
    return store


def test_one_time_is_begun_once(stores: Stores) -> None:
    store = followed(stores.open(), "n")
    look = store.look()
    since = look.state.settled["n"]
    assert abs(since - look.now) < HOUR and not look.state.running
    assert store.begin("n", since + HOUR, since=since) is Begun.HERE
    assert store.begin("n", since + HOUR, since=since) is Begun.LATE
    look = store.look()
    assert look.state.settled == {"n": since + HOUR} and look.state.running["n"].nominal == since + HOUR
    assert look.state.running["n"].here and not look.state.running["n"].gone
    assert not store.settle("n", since + 2 * HOUR, since=since)
    assert store.settle("n", since + 2 * HOUR, since=since + HOUR)
    assert store.begin("n", since) is Begun.HERE
    assert store.look().state.settled == {"n": since + 2 * HOUR}, "it only moves forward"


def test_an_end_and_what_follows_it_are_one_step(stores: Stores) -> None:
    store = followed(stores.open(), "n", "after")
    since = store.look().state.settled["n"]
    store.begin("n", since + HOUR)
    assert store.end("n", goes_on=False, then=["after"], nominal=since + HOUR) == {"after": Begun.HERE}
    look = store.look()
    assert set(look.state.running) == {"after"} and look.state.running["after"].nominal == since + HOUR
    assert store.end("after", goes_on=True, then=[], nominal=since) == {}
    assert set(store.look().state.running) == {"after"}, "another one of it goes on"
    store.end("after", goes_on=False, then=[], nominal=since)
    assert store.look().state.running == {}


def test_who_opens_it_next_finds_what_did_not_end(stores: Stores) -> None:
    store = followed(stores.open(), "n")
    nominal = store.look().now + HOUR
    store.begin("n", nominal)
    store.note_run("n", "r1")
    with pytest.raises(AlreadyServed):
        stores.open()
    stores.kill(store)
    again = followed(stores.open(), "n")
    (running,) = again.look().state.running.values()
    assert running.here and running.nominal == nominal and running.run_id in ("r1", "")
    assert again.begin("n", nominal, instead_of="") is Begun.HERE
    again.end("n", goes_on=False, then=[], nominal=nominal)
    assert again.begin("n", nominal, instead_of="") is Begun.LATE, "it has ended"


def test_what_nobody_follows_is_forgotten(stores: Stores) -> None:
    store = followed(stores.open(), "n", "m")
    settled = store.look().state.settled
    store.begin("m", settled["m"] + HOUR)
    followed(store, "n", "new")
    look = store.look()
    assert set(look.state.settled) == {"n", "new"} and look.state.settled["n"] == settled["n"]
    assert look.state.running == {}


def test_pauses(stores: Stores) -> None:
    store = followed(stores.open(), "n")
    assert store.paused() == {}
    assert store.change_paused({"n": "the array moves", "m": "by hand"}) == {"n": "the array moves", "m": "by hand"}
    assert store.paused() == store.look().paused == {"n": "the array moves", "m": "by hand"}
    assert store.change_paused({"n": None, "x": None}) == {"m": "by hand"} == store.look().paused


def test_what_is_remembered_can_be_looked_at_by_others(stores: Stores) -> None:
    store = followed(stores.open(), "n")
    store.begin("n", store.look().now)
    if stores.url is None:
        state = look_at_state(stores.directory / "a")
        assert set(state.running) == {"n"} == set(state.settled)
        return
    board = open_board(stores.url)
    look = look_at_shared(board)
    assert look.state.running["n"].host == "a" and not look.state.running["n"].here
    assert change_paused_shared(board, {"n": "why"}) == {"n": "why"} == store.look().paused
    board.close()


def test_of_many_nodes_one_begins_a_time(shared: Stores) -> None:
    nodes = [followed(shared.open(f"node{number}"), "n") for number in range(NODES)]
    since = nodes[0].look().state.settled["n"]
    together = threading.Barrier(NODES)

    def race(store: ScheduleStore) -> Begun:
        together.wait()
        return store.begin("n", since + HOUR, since=since)

    with ThreadPoolExecutor(NODES) as threads:
        begun = sorted(threads.map(race, nodes))
    assert begun == [Begun.HERE, *[Begun.LATE] * (NODES - 1)]


def test_a_run_elsewhere_is_asked_for_one_more(shared: Stores) -> None:
    a, b = (followed(shared.open(name), "n") for name in "ab")
    nominal = a.look().now
    a.begin("n", nominal)
    seen = b.look().state.running["n"]
    assert (seen.host, seen.here, seen.gone) == ("a", False, False)
    assert b.begin("n", nominal) is Begun.ELSEWHERE
    assert b.end("n", goes_on=False, then=["x"], nominal=nominal) == {}, "it is not its run"
    assert a.look().state.running["n"].again
    assert a.end("n", goes_on=False, then=[], nominal=nominal) == {"n": Begun.HERE}
    assert not a.look().state.running["n"].again
    b.begin("n", nominal)
    a.heard("n")
    assert a.end("n", goes_on=False, then=[], nominal=nominal) == {} and b.look().state.running == {}


def test_the_run_of_a_node_that_is_gone_is_taken_by_one(shared: Stores) -> None:
    a, *others = nodes = [followed(shared.open(f"node{number}"), "n") for number in range(NODES)]
    nominal = a.look().now
    a.begin("n", nominal)
    a.note_run("n", "r1")
    (gone,) = {one.look().state.running["n"].node for one in others}
    assert others[0].begin("n", nominal, instead_of=gone) is Begun.LATE, "it lives"
    shared.pass_time("node0")
    seen = others[0].look().state.running["n"]
    assert seen.gone and seen.run_id == "r1" and seen.seen is not None and seen.seen < seen.began
    together = threading.Barrier(len(others))

    def take(store: ScheduleStore) -> Begun:
        together.wait()
        return store.begin("n", nominal, instead_of=gone)

    with ThreadPoolExecutor(NODES) as threads:
        assert sorted(threads.map(take, others)) == [Begun.HERE, Begun.LATE, Begun.LATE]
    assert a.end("n", goes_on=False, then=["n2"], nominal=nominal) == {}
    look = a.look()
    assert not look.state.running["n"].here and not look.state.running["n"].gone and len(nodes) == NODES


def test_a_node_that_leaves_leaves_its_runs_at_once(shared: Stores) -> None:
    a, b = (followed(shared.open(name), "n") for name in "ab")
    a.begin("n", a.look().now)
    a.close(in_order=False)
    assert not b.look().state.running["n"].gone, "something of it may go on"
    a = shared.open("a")
    assert a.look().state.running["n"].here
    a.close()
    seen = b.look().state.running["n"]
    assert seen.gone and seen.seen is None


def test_a_copy_of_a_state_directory_is_another_node(shared: Stores) -> None:
    a = followed(shared.open("a"), "n")
    a.begin("n", a.look().now)
    shutil.copytree(shared.directory / "a", shared.directory / "b")
    b = followed(shared.open("b"), "n")
    seen = b.look().state.running["n"]
    assert not seen.here and not seen.gone
    assert a.look().state.running["n"].here


def test_a_schedule_that_another_node_follows_is_not_forgotten(shared: Stores) -> None:
    a, b = followed(shared.open("a"), "n", "m"), followed(shared.open("b"), "m")
    settled = a.look().state.settled["m"]
    followed(a, "n")
    assert a.look().state.settled["m"] == settled == b.look().state.settled["m"]
    followed(b)
    assert set(b.look().state.settled) == {"n"}


def test_clocks_and_definitions_that_differ_are_told(shared: Stores) -> None:
    fast, now_s = FakeClock(SystemClock().now_s() + 600), SystemClock().now_s()
    a, b = followed(shared.open("a", clock=fast), "n"), shared.open("b")
    b.meet({"n": "another"}, {"n"})
    for now in (a.look().now, a.now()):
        assert abs(now - utc(now_s)) < timedelta(seconds=60)
    b.look()
    assert "clock is 10 min 00 s ahead of" in a.problem and "schedule n is defined otherwise on b (1)" in a.problem
    assert b.problem == "schedule n is defined otherwise on a (0)"
    board = open_board(str(shared.url))
    seen = {one.node.host: one for one in nodes_of(board)}
    board.close()
    assert 590 < seen["a"].skew_s < 610 and abs(seen["b"].skew_s) < 5 and seen["a"].alive
    assert seen["a"].node.plan == {"n": "1"}


def test_a_node_knows_by_itself_that_it_was_not_heard_of(shared: Stores) -> None:
    clock = FakeClock(SystemClock().now_s())
    store = followed(shared.open("a", clock=clock, lease_s=30.0), "n")
    clock.advance(24)
    assert not store.lost()
    clock.advance(2)
    assert "did not hear of this node" in store.lost(), "a beat before others may begin its runs"
    store.look()
    assert not store.lost()


def test_a_database_that_is_away_is_tried_again(shared: Stores) -> None:
    asked: list[int] = []

    def away_first() -> object:
        asked.append(1)
        if len(asked) < 3:
            raise BoardUnavailable("db", "connection refused")
        return open_board(str(shared.url))

    me = Node(id="x", host="x", pid=1, version="1", lease_s=30.0, plan={})
    store = SharedStore(shared.directory / "x", away_first, me, clock=SystemClock())  # type: ignore[arg-type]
    seen: Callable[[], object] = store.look
    for _ in range(2):
        with pytest.raises(StoreAway, match="connection refused"):
            seen()
    assert store.look().state.settled == {}
    store.close()


def test_tables_that_are_gone_are_made_again(shared: Stores) -> None:
    store = followed(shared.open("a"), "n")
    board = open_board(str(shared.url))
    with board.writing() as connection:
        tables.schedule_runs.drop(connection)
    board.close()
    with pytest.raises(StoreAway, match="xobackup_schedule_runs"):
        store.look()
    assert store.look().state.running == {}
