"""The service, and everything that may get in its way."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schedules.agenda import Missed, Schedule
from schedules.calendar import Calendar
from schedules.timing import Cron, Every
from schedules.windows import parse_span
from xobackup.clock import FakeClock
from xobackup.engine.cancel import CancelToken
from xobackup.service.runner import Order
from xobackup.service.service import Follower, Plan, Service
from xobackup.service.state import AlreadyServed, StateUnreadable, change_paused, read_paused
from xotest.week import BEGIN, PARIS, expected, schedules

WEEK = Plan(schedules=schedules(Every(interval="30m")), runs_max=4)


class House:
    """A service's surroundings, kept over restarts."""

    def __init__(self, directory: Path, plan: Plan = WEEK, begin: datetime = BEGIN) -> None:
        self.directory, self.plan = directory, plan
        self.clock = FakeClock(begin.timestamp())
        self.runs: list[Order] = []
        self.said: list[tuple[str, str, object]] = []
        self.outcomes: dict[str, str] = {}
        self.gate: Callable[[Order, CancelToken], None] = lambda _order, _cancel: None
        self._mutex = threading.Lock()
        self.service = self.open()

    def open(self) -> Service:
        service = Service(self.directory, self.plan, self._work, clock=self.clock, log=self._say)
        service.start()
        return service

    def _work(self, order: Order, cancel: CancelToken) -> str:
        with self._mutex:
            self.runs.append(order)
        self.gate(order, cancel)
        return "cancelled" if cancel.cancelled else self.outcomes.get(order.schedule, "ok")

    def _say(self, level: str, text: str, **fields: object) -> None:
        self.said.append((level, text, fields.get("schedule")))

    def go(self, until: datetime, step_s: float = 120) -> None:
        while self.clock.now_s() < until.timestamp():
            self.clock.advance(step_s)
            self.service.round()
            assert self.service.runner.idle(20)

    def restart(self) -> None:
        self.service.stop("SIGTERM")
        self.service = self.open()

    def kill(self) -> None:
        """As a process that is gone: nothing is written any more, its lock is free."""
        self.service.store.close()
        self.service.store._replace = lambda _state: None  # type: ignore[method-assign]
        self.service = self.open()

    def counted(self) -> Counter[tuple[str, datetime]]:
        return Counter((one.schedule, one.nominal.astimezone(UTC)) for one in self.runs)


def test_what_was_running_when_the_process_died_is_begun_again(tmp_path: Path) -> None:
    house = House(tmp_path)
    entered, leave = threading.Event(), threading.Event()

    def hang(order: Order, _cancel: CancelToken) -> None:
        if order.schedule == "nightly" and not leave.is_set():
            entered.set()
            assert leave.wait(30)

    house.gate = hang
    while not entered.is_set():
        house.clock.advance(60)
        house.service.round()
        entered.wait(0.001)
    before = house.service
    house.gate = lambda _order, _cancel: None
    house.kill()
    assert house.service.runner.idle(20)
    nightly = [one for one in house.runs if one.schedule == "nightly"]
    assert [one.reason for one in nightly] == ["", "did not end before"]
    assert nightly[0].nominal == nightly[1].nominal
    leave.set()
    assert before.runner.idle(20)
    house.restart()
    assert house.service.runner.idle(20) and len([o for o in house.runs if o.schedule == "nightly"]) == 2


def test_a_stop_lets_runs_clean_up_and_the_next_start_begins_them_again(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.gate = lambda _order, cancel: _wait(cancel)
    house.clock.advance(2100)
    house.service.round()
    assert house.service.stop("SIGTERM") == []
    assert [one.schedule for one in house.runs] == ["often"]
    house.gate = lambda _order, _cancel: None
    house.service = house.open()
    assert house.service.runner.idle(20)
    assert [one.schedule for one in house.runs] == ["often", "often"] and house.runs[1].reason == "did not end before"


def test_a_stop_may_let_runs_end_and_loses_nothing_that_would_have_followed(tmp_path: Path) -> None:
    plan = Plan(
        schedules={"n": Schedule(calendar=Calendar(name="n", timing=Every(interval="1h")))},
        followers={"after": Follower(after="n", only_ok=True)},
        finish_wait_s=30,
        stop_wait_s=30,
    )
    house = House(tmp_path, plan)
    entered, leave = threading.Event(), threading.Event()

    def hang(_order: Order, cancel: CancelToken) -> None:
        entered.set()
        assert leave.wait(20) and not cancel.cancelled

    house.gate = hang
    for _ in range(2):  # what is due the second time follows
        house.clock.advance(3600)
        house.service.round()
        assert entered.wait(20)
    stopping = threading.Thread(target=house.service.stop, args=("SIGTERM",))
    stopping.start()
    while not house.service.runner._stopping:
        entered.wait(0.001)
    leave.set()
    stopping.join(20)
    assert house.service.unsettled == {"n", "after"} and len(house.runs) == 1
    house.service = house.open()
    assert house.service.runner.idle(20)
    assert Counter(one.schedule for one in house.runs) == {"n": 2, "after": 2}, "one after each"

    hurry = threading.Event()
    hurry.set()
    house.gate = lambda _order, cancel: _wait(cancel)
    house.clock.advance(3600)
    house.service.round()
    assert house.service.stop("SIGTERM", hurry) == [] and house.service.unsettled == {"n"}, "it was told to stop"


def _wait(cancel: CancelToken) -> None:
    for _ in range(2000):
        if cancel.cancelled:
            return
        threading.Event().wait(0.01)
    raise AssertionError("it was not asked to stop")


def test_after_an_absence_there_is_one_run_that_says_so(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.service.stop("SIGTERM")
    house.clock.advance(3 * 86_400)
    house.service = house.open()
    house.service.round()
    assert house.service.runner.idle(20)
    runs = {one.schedule: one for one in house.runs}
    assert len(house.runs) == len(runs) and "times in one" in runs["often"].reason
    assert runs["nightly"].reason.startswith("missed: it was due at ")


def test_the_hour_that_comes_twice_is_lived_through_once_each(tmp_path: Path) -> None:
    half_hours = Calendar(name="n", timing=Cron(expression="*/30 * * * *", timezone=PARIS))
    house = House(tmp_path, Plan(schedules={"n": Schedule(calendar=half_hours)}), BEGIN + timedelta(days=2.4))
    house.go(BEGIN + timedelta(days=2.7))
    assert house.counted() == Counter(
        expected(house.plan, BEGIN + timedelta(days=2.4), BEGIN + timedelta(days=2.7, seconds=1))
    )
    assert len(house.runs) == 14


def test_missed_times_may_be_skipped(tmp_path: Path) -> None:
    calendar = Calendar(name="n", timing=Every(interval="1h"))
    house = House(tmp_path, Plan(schedules={"n": Schedule(calendar=calendar, missed=Missed.SKIP)}))
    house.service.stop("SIGTERM")
    house.clock.advance(5 * 3600 + 1200)
    house.service = house.open()
    house.service.round()
    assert house.runs == []
    assert any("skipped: missed" in text for _, text, _ in house.said)


def test_what_is_due_while_it_runs_follows_once(tmp_path: Path) -> None:
    house = House(tmp_path, Plan(schedules={"n": Schedule(calendar=Calendar(name="n", timing=Every(interval="1h")))}))
    leave = threading.Event()

    def hang(_order: Order, _cancel: CancelToken) -> None:
        assert leave.wait(30)

    house.gate = hang
    for _ in range(4):
        house.clock.advance(3600)
        house.service.round()
    leave.set()
    assert house.service.runner.idle(20)
    assert [one.nominal.hour for one in house.runs] == [13, 16]


def test_followers_run_after_and_only_when_it_went_well(tmp_path: Path) -> None:
    plan = Plan(
        schedules={"n": Schedule(calendar=Calendar(name="n", timing=Every(interval="1h")))},
        followers={
            "good": Follower(after="n", only_ok=True),
            "any": Follower(after="n", only_ok=False),
            "last": Follower(after="good", only_ok=True),
            "off": Follower(after="n", only_ok=False, enabled=False),
        },
        runs_max=1,
    )
    house = House(tmp_path, plan)
    house.go(BEGIN + timedelta(hours=1), step_s=3600)
    assert [one.schedule for one in house.runs] == ["n", "good", "any", "last"]
    house.outcomes["n"] = "failed"
    house.go(BEGIN + timedelta(hours=2), step_s=3600)
    assert [one.schedule for one in house.runs][4:] == ["n", "any"]
    assert ("warning", "skipped: n ended as failed", "good") in house.said


def test_a_window_that_ends_stops_its_run(tmp_path: Path) -> None:
    window = parse_span(begin="20:00", end="21:00", days="")
    calendar = Calendar(name="n", timing=Cron(expression="0 20 * * *"), window=window)
    plan = Plan(schedules={"n": Schedule(calendar=calendar)}, stop_at_end=frozenset({"n"}))
    house = House(tmp_path, plan)
    house.gate = lambda _order, cancel: _wait(cancel)
    house.clock.advance(8 * 3600)
    house.service.round()
    house.clock.advance(3601)
    house.service.round()
    assert house.service.runner.idle(20)
    assert ("warning", "its window ended: the run is stopped", "n") in house.said
    house.restart()
    assert house.service.runner.idle(20) and len(house.runs) == 1  # it had ended


def test_paused_schedules_start_nothing_and_are_not_made_up_for(tmp_path: Path) -> None:
    house = House(tmp_path, Plan(schedules={"n": Schedule(calendar=Calendar(name="n", timing=Every(interval="1h")))}))
    change_paused(tmp_path, {"n": "the array moves"})
    house.go(BEGIN + timedelta(hours=3), step_s=1800)
    assert house.runs == [] and ("warning", "skipped: paused: the array moves", "n") in house.said
    change_paused(tmp_path, {"n": None})
    house.go(BEGIN + timedelta(hours=4), step_s=1800)
    assert [one.nominal.hour for one in house.runs] == [16]


def test_another_configuration_is_followed_at_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    new = Schedule(calendar=Calendar(name="new", timing=Every(interval="10m")))
    house.service.adopt(Plan(schedules={"new": new}))
    house.go(BEGIN + timedelta(hours=1), step_s=600)
    assert {one.schedule for one in house.runs} == {"new"} and len(house.runs) == 6
    assert set(json.loads((tmp_path / "schedules.json").read_text())["settled"]) == {"new"}


def test_one_service_per_state_directory(tmp_path: Path) -> None:
    house = House(tmp_path)
    with pytest.raises(AlreadyServed, match="one is enough"):
        house.open()


def test_damaged_state_is_set_aside_and_told(tmp_path: Path) -> None:
    (tmp_path / "schedules.json").write_text('{"settled": {"nightly": "yesterday"}}')
    house = House(tmp_path)
    assert (tmp_path / "schedules.damaged").exists()
    assert any("is damaged" in text and level == "error" for level, text, _ in house.said)
    house.go(BEGIN + timedelta(hours=1))
    assert house.counted() == Counter(expected(WEEK, BEGIN, BEGIN + timedelta(hours=1, seconds=1)))


def test_a_damaged_pause_starts_nothing_and_is_told_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    (tmp_path / "paused.json").write_text("{")
    house.go(BEGIN + timedelta(hours=2))
    assert house.runs == []
    told = [text for level, text, _ in house.said if level == "error"]
    assert len(told) == 1 and "delete it to pause nothing" in told[0]
    with pytest.raises(StateUnreadable):
        read_paused(tmp_path)
    (tmp_path / "paused.json").unlink()
    house.service.round()
    assert house.service.runner.idle(20) and house.runs


def test_what_cannot_be_written_down_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path)

    def full(_path: Path, _value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xobackup.service.state.write_whole", full)
    house.clock.advance(1900)
    house.service.round()
    house.service.round()
    assert house.runs == []
    assert [text for level, text, _ in house.said if level == "error"] == [
        "nothing is started: [Errno 28] No space left on device"
    ]
    monkeypatch.undo()
    house.service.round()
    assert house.service.runner.idle(20) and [one.schedule for one in house.runs] == ["often"]


def test_a_clock_that_jumps(tmp_path: Path) -> None:
    house = House(tmp_path, Plan(schedules={"n": Schedule(calendar=Calendar(name="n", timing=Every(interval="1h")))}))
    house.go(BEGIN + timedelta(hours=2), step_s=1800)
    house.clock.advance(-5 * 3600)
    for _ in range(10):
        house.clock.advance(1800)
        house.service.round()
        assert house.service.runner.idle(20)
    assert len(house.runs) == 2
    house.clock.advance(30 * 86_400)
    house.service.round()
    assert house.service.runner.idle(20) and len(house.runs) == 3
