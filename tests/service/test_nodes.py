"""Several control nodes with wrong clocks and the same schedules, through bad days, by seed: every time is begun
once, what a node could not end another one begins again, and no two nodes run one schedule at once.

``SEEDS="1 2 3" pytest tests/service/test_nodes.py`` tries others. Time is simulated: the database's clock is the true
one, each node's is off by up to ten minutes.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from schedules.agenda import Schedule
from schedules.calendar import Calendar
from schedules.timing import Every
from xobackup.clock import FakeClock
from xobackup.engine.cancel import CancelToken
from xobackup.service.runner import Order
from xobackup.service.service import Follower, Plan, Service
from xobackup.service.shared import SharedStore
from xobackup.workers import node_tables as tables
from xobackup.workers.errors import BoardUnavailable
from xobackup.workers.nodes import Node
from xotest.boards import clocked_board
from xotest.week import BEGIN

SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "1 2").split()]
STEP_S = 5.0
LEASE_S = 60.0
SKEWS_S = (600.0, -600.0, 0.0)
HOURS = 3
PLAN = Plan(
    schedules={
        name: Schedule(calendar=Calendar(name=name, timing=Every(interval=interval)))
        for name, interval in (("often", "10m"), ("hourly", "1h"))
    },
    followers={"after": Follower(after="hourly", only_ok=True)},
    runs_max=2,
)


class SkewedClock:
    """The true time, wrong by so much; a counter that goes right."""

    def __init__(self, true: FakeClock, skew_s: float) -> None:
        self.true, self.skew_s = true, skew_s

    def now_s(self) -> float:
        return self.true.now_s() + self.skew_s

    def monotonic_s(self) -> float:
        return self.true.now_s()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


class StillStore(SharedStore):
    """Says that it lives when the simulation lets it."""

    def watch(self, when_lost) -> None:
        self.when_lost = when_lost


@dataclass(eq=False)
class Run:
    """One that goes on; ``over``: its node is gone with it."""

    order: Order
    node: NodeAtWork
    cancel: CancelToken
    ends_s: float
    leave: threading.Event = field(default_factory=threading.Event)
    over: str = ""


class NodeAtWork:
    """One process of a control node."""

    def __init__(self, house: Nodes, name: str, skew_s: float) -> None:
        self.house, self.name = house, name
        self.frozen = self.dead = self.cut = False
        clock = SkewedClock(house.clock, skew_s)
        house.processes += 1
        me = Node(id=f"{name}{house.processes}", host=name, pid=1, version="1", lease_s=LEASE_S, plan={})
        self.store = StillStore(house.directory / name, self._board, me, clock=clock)
        self.service = Service(house.directory / name, PLAN, self._work, clock=clock, log=self._say, store=self.store)
        self.service.start()

    def _board(self):
        if self.house.away or self.cut:
            raise BoardUnavailable("db", "connection refused")
        return self.house.board

    def _work(self, order: Order, cancel: CancelToken) -> str:
        run = self.house.began(self, order, cancel)
        while not run.leave.wait(0.002):
            if cancel.cancelled and not (self.frozen or self.dead):
                break
        run.over = run.over or ("cancelled" if cancel.cancelled else "ok")
        return run.over

    def _say(self, level: str, text: str, **fields: object) -> None:
        self.house.said.append((self.name, level, text))

    def go(self) -> None:
        """What its threads do in a moment: the one that says that it lives first."""
        if self.dead or self.frozen:
            return
        self.store._board = None if self.house.away or self.cut else self.house.board
        if self.store.lost():
            self.store.when_lost()
        self.service.round()


class Nodes:
    """The simulation."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory, self.rng = directory, random.Random(seed)
        self.clock = FakeClock(BEGIN.timestamp())
        self.board = clocked_board(f"sqlite:///{directory / 'engine.db'}", self.clock)
        self.away = False
        self.processes = 0
        self.runs: list[Run] = []
        self.said: list[tuple[str, str, str]] = []
        self.mutex = threading.Lock()
        self.nodes = [NodeAtWork(self, f"node{number}", skew_s) for number, skew_s in enumerate(SKEWS_S)]

    def began(self, node: NodeAtWork, order: Order, cancel: CancelToken) -> Run:
        with self.mutex:
            run = Run(order, node, cancel, self.clock.now_s() + self.rng.choice((20, 120, 400)))
            self.runs.append(run)
        return run

    def living(self) -> list[Run]:
        """Those that can do anything: nobody waits for the threads of the dead."""
        return [one for one in self.runs if not one.over and not (one.node.dead or one.node.frozen)]

    def step(self) -> None:
        self.clock.advance(STEP_S)
        for node in self.rng.sample(self.nodes, len(self.nodes)):
            node.go()
            for run in self.living():
                if run.ends_s <= self.clock.now_s() or run.cancel.cancelled:
                    run.leave.set()
            self.settle()
        active = [one.order.schedule for one in self.living()]
        assert len(active) == len(set(active)), (active, self.said[-10:])

    def settle(self) -> None:
        """Wait for threads that were let go, and for those that were started."""
        for _ in range(5000):
            runs = list(self.runs)
            ended = all(run.over for run in runs if run.leave.is_set())
            going = {id(run.order) for run in runs}
            alive = [node for node in self.nodes if not node.dead]
            begun = all(id(order) in going for node in alive for order in node.service.runner.running())
            left = [
                order
                for node in alive
                for order in node.service.runner.running()
                if any(run.order is order and run.over for run in runs)
            ]
            if ended and begun and not left:
                return
            threading.Event().wait(0.001)
        raise AssertionError("threads hang")

    def kill(self, node: NodeAtWork) -> None:
        node.dead = True
        node.store._lock.close()

    def again(self, node: NodeAtWork) -> None:
        new = NodeAtWork(self, node.name, node.store._clock.skew_s)
        self.nodes[self.nodes.index(node)] = new

    def close(self) -> None:
        for run in self.runs:
            run.leave.set()
        for node in self.nodes:
            node.store._board = None
            node.store._lock.close()
        self.board.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_time_is_begun_once_and_no_two_nodes_run_one_schedule(tmp_path: Path, seed: int) -> None:
    house, rng = Nodes(tmp_path, seed), random.Random(seed)
    dead: list[NodeAtWork] = []
    troubles, heals_at, steps = 0, 0, round(HOURS * 3600 / STEP_S)
    for number in range(steps):
        house.step()
        busy = [run.node for run in house.living()]
        if not heals_at and busy and rng.random() < 0.1 and number < steps - 300:
            troubles += 1
            victim = rng.choice(busy)
            what = rng.choice(("kill", "freeze", "away", "cut"))
            if what == "kill":
                house.kill(victim)
                dead.append(victim)
            victim.frozen, victim.cut = what == "freeze", what == "cut"
            house.away = what == "away"
            heals_at = number + round(rng.choice((15, 40, 58, 62, 100)) / STEP_S)
        if number == heals_at:
            house.away, heals_at = False, 0
            for node in house.nodes:
                node.frozen = node.cut = False
            for node in [one for one in house.nodes if one.dead]:
                house.again(node)
    assert troubles > 10 and dead
    for _ in range(200):
        if not any(run for run in house.living()):
            break
        house.step()
    look = house.nodes[0].store.look()
    firsts = [
        (run.order.schedule, run.order.nominal)
        for run in house.runs
        if run.order.schedule in PLAN.schedules and not run.order.reason.startswith(("was begun by", "did not end"))
    ]
    assert len(firsts) == len(set(firsts)), (seed, "a time was begun twice")
    for name, schedule in PLAN.schedules.items():
        ended = {run.order.nominal for run in house.runs if run.order.schedule == name and run.over == "ok"}
        begun = {nominal for one, nominal in firsts if one == name}
        last = max(
            fire.nominal for fire in schedule.calendar.between(BEGIN, look.now - timedelta(seconds=2 * STEP_S))
        )
        assert look.state.settled[name] >= last, (seed, name)
        for nominal, following in itertools.pairwise([*sorted(begun), look.now + timedelta(days=1)]):
            told = (seed, name, nominal, "what could not be ended was begun again")
            assert any(nominal <= one < following for one in ended), told
        gaps = [later - earlier for earlier, later in zip(sorted(ended), sorted(ended)[1:], strict=False)]
        assert max(gaps) <= 3 * timedelta(seconds=3600 if name == "hourly" else 600), (seed, gaps)
    told = [text for _, _, text in house.said]
    assert any("which was not heard of since" in text or "did not end" in text for text in told)
    assert any("clock is 10 min 00 s ahead" in text for text in told)
    assert any("clock is 10 min 00 s behind" in text for text in told)
    house.close()


def test_a_node_that_was_stopped_finds_that_its_run_was_given_away(tmp_path: Path) -> None:
    house = Nodes(tmp_path, 1)
    while not house.runs:
        house.step()
    (first,) = house.runs
    first.ends_s = float("inf")
    first.node.frozen = True
    begun_s = house.clock.now_s()
    while len([one for one in house.runs if one.order.schedule == first.order.schedule]) < 2:
        house.step()
    assert LEASE_S - 2 * STEP_S <= house.clock.now_s() - begun_s <= LEASE_S + 2 * STEP_S
    second = [one for one in house.runs if one.order.schedule == first.order.schedule][1]
    second.ends_s = float("inf")
    assert second.order.reason.startswith(f"was begun by {first.node.name} which was not heard of since ")
    assert second.order.nominal == first.order.nominal and second.node is not first.node
    first.node.frozen = False
    house.step()
    assert first.over == "cancelled" and "did not hear of this node" in first.cancel.reason
    assert not second.over
    house.step()
    assert [one for one in house.living() if one.order.schedule == first.order.schedule] == [second]
    house.close()


def test_a_database_that_is_away_starts_nothing_and_stops_nothing_within_the_lease(tmp_path: Path) -> None:
    house = Nodes(tmp_path, 3)
    while not house.runs:
        house.step()
    (run,) = house.runs
    run.ends_s = house.clock.now_s() + 20
    house.away = True
    for _ in range(6):
        house.step()
    assert run.over == "ok" and len(house.runs) == 1
    assert run.node.service.problem.startswith("nothing is started: engine database db: connection refused")
    told = [text for _, level, text in house.said if level == "error" and text.startswith("nothing is started")]
    assert len(told) == len(house.nodes), "once each"
    house.away = False
    house.step()
    assert house.board.dispatch is not None and not run.node.store.look().state.running
    assert any("schedules are followed again" in text for _, _, text in house.said)
    house.close()


def test_pausing_one_node_pauses_all_and_asking_reaches_the_one_that_runs(tmp_path: Path) -> None:
    house = Nodes(tmp_path, 2)
    house.nodes[0].store.change_paused({"often": "the array moves"})
    for _ in range(round(1500 / STEP_S)):
        house.step()
    assert not [one for one in house.runs if one.order.schedule == "often"]
    house.nodes[1].store.change_paused({"often": None})
    while not (runs := [one for one in house.runs if one.order.schedule == "often"]):
        house.step()
    runs[0].ends_s = house.clock.now_s() + 60
    other = next(node for node in house.nodes if node is not runs[0].node)
    assert other.service.run_now("often").value == "follows the one that runs on another node"
    other.go()
    assert other.service.elsewhere == {"often": runs[0].node.name}
    while len([one for one in house.runs if one.order.schedule == "often"]) < 2:
        house.step()
    second = [one for one in house.runs if one.order.schedule == "often"][1]
    assert second.node is runs[0].node and second.order.reason == "asked for" and runs[0].over == "ok"
    house.close()


def test_what_is_lost_with_the_database_begins_anew_at_the_present(tmp_path: Path) -> None:
    house = Nodes(tmp_path, 4)
    while not house.runs:
        house.step()
    with house.board.writing() as connection:
        for table in (tables.schedules, tables.schedule_runs):
            connection.execute(sa.delete(table))
    before = len(house.runs)
    house.step()
    assert house.nodes[0].store.look().state.settled == dict.fromkeys(PLAN.schedules, house.nodes[0].store.now())
    while len(house.runs) == before:
        house.step()
    house.close()
