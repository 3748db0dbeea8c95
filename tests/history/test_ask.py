"""Questions to the database and their answers."""

from pathlib import Path

import pytest

from xobackup.clock import FakeClock
from xobackup.history import ask
from xobackup.history.collect import catch_up
from xobackup.history.store import Store
from xotest.journals import DATABASE, WEB, one_run

DAY = 86_400


@pytest.fixture
def month(store: Store, journals: Path, clock: FakeClock) -> Store:
    """Thirty nights of two VMs; the database fails on every tenth, the first night is full."""
    for night in range(30):
        outcomes = {WEB: "ok", DATABASE: "failed" if night % 10 == 9 else "ok"}
        one_run(journals, clock, f"run-{night:02}", outcomes=outcomes, mode="delta" if night else "full")
        clock.advance(DAY - 40)
    one_run(journals, clock, "hourly-1", job="hourly")
    catch_up(store, journals)
    return store


def test_runs_come_in_pages_and_can_be_chosen(month: Store) -> None:
    first = ask.runs(month, limit=3)
    assert [row["run_id"] for row in first] == ["hourly-1", "run-29", "run-28"]
    more = ask.runs(month, limit=2, before=first[-1]["began_at"])
    assert [row["run_id"] for row in more] == ["run-27", "run-26"]
    assert [row["run_id"] for row in ask.runs(month, outcome="failed")] == ["run-29", "run-19", "run-09"]
    assert [row["job"] for row in ask.runs(month, job="hourly")] == ["hourly"]


def test_a_run_in_depth_and_by_the_beginning_of_its_id(month: Store) -> None:
    run = ask.run(month, "run-09")
    assert run is not None and [one["name"] for one in run["subjects"]] == ["web", "database"]
    web, database = run["subjects"]
    assert [phase["phase"] for phase in web["phases"]] == ["prepare", "transfer"] and len(web["disks"]) == 1
    assert [message["text"] for message in database["messages"]] == ["the remote is full"]
    assert ask.run(month, "nonsense") is None
    assert ask.run_ids(month, "run-1") == ["run-19", "run-18", "run-17"]
    assert ask.run_ids(month, "run_") == [] and ask.run_ids(month, "%") == []


def test_a_vm_run_by_run(month: Store) -> None:
    assert ask.uuids_called(month, "database") == [DATABASE] == ask.uuids_called(month, DATABASE)
    assert ask.uuids_called(month, "data%") == []
    rows = ask.subjects(month, DATABASE, limit=2)
    assert [(row["run_id"], row["outcome"]) for row in rows] == [("run-29", "failed"), ("run-28", "ok")]
    assert [row["run_id"] for row in ask.subjects(month, WEB, job="hourly")] == ["hourly-1"]
    usual = ask.typical(month, DATABASE, "nightly", runs=5)
    assert [row["mode"] for row in usual] == ["delta"] * 5 and usual[0]["duration_s"] == 20


def test_sums_by_day(month: Store) -> None:
    start = FakeClock().now_s()
    days = ask.days(month, since=start, until=start + 10 * DAY)
    assert [row["day"] for row in days] == [int(start) + DAY * number for number in range(10)]
    assert [(row["ok"], row["failed"]) for row in days] == [(2, 0)] * 9 + [(1, 1)]
    assert days[0]["read_bytes"] == 8 << 20 and days[0]["duration_s"] == 40


def test_problems_say_where_they_belong(month: Store) -> None:
    found = ask.problems(month, since=0, limit=2)
    assert [(row["run_id"], row["name"], row["text"]) for row in found] == [
        ("run-29", "database", "the remote is full"),
        ("run-19", "database", "the remote is full"),
    ]


def test_samples_of_remotes(store: Store) -> None:
    for at in (1.0, 2.0, 3.0):
        store.put_sample({"at": at, "remote": "nas", "free_bytes": int(at), "problem": ""})
    store.put_sample({"at": 2.5, "remote": "other", "problem": "does not answer"})
    assert [row["free_bytes"] for row in ask.samples(store, "nas", since=2)] == [2, 3]
