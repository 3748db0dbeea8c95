"""Which VMs are within their objective."""

from typing import Any

from xobackup.history.standing import Objective, State, overview

NOW, HOUR = 1_000_000.0, 3600.0


def row(name: str, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "uuid": name, "name": name, "kind": "vm", "pool": "main", "job": "nightly", "run_id": "r",
        "began_at": NOW - HOUR, "ended_at": NOW, "outcome": "ok", "reason": "", "mode": "delta",
        "good_at": NOW - HOUR, "good_run_id": "r", "failures": 0,
    }  # fmt: skip
    return {**usual, **more}


DAILY = {"nightly": Objective(rpo_s=24 * HOUR, why="")}


def test_the_headline_counts_and_the_worst_come_first() -> None:
    rows = [
        row("good"),
        row("late", good_at=NOW - 25 * HOUR, outcome="failed", failures=2),
        row("never", good_at=None, outcome="failed", failures=3),
        row("later", good_at=NOW - 40 * HOUR),
        row("excluded", outcome="skipped"),
        row("of a job that is gone", job="gone"),
    ]
    found = overview(rows, DAILY, NOW)
    assert found.headline == "1 of 4 VMs within their RPO" and not found.good
    assert [(one.name, one.state) for one in found.vms] == [
        ("never", State.NEVER), ("later", State.LATE), ("late", State.LATE), ("good", State.GOOD),
    ]  # fmt: skip


def test_a_failed_run_within_the_objective_is_no_breach() -> None:
    found = overview([row("vm", outcome="failed", failures=1)], DAILY, NOW)
    assert found.good and found.headline == "1 of 1 VMs within their RPO"


def test_jobs_without_objective_and_jobs_without_runs() -> None:
    jobs = {**DAILY, "by hand": Objective(rpo_s=None, why=""), "new": Objective(rpo_s=HOUR, why="")}
    found = overview([row("vm"), row("vm", job="by hand")], jobs, NOW)
    assert found.headline == "1 of 1 VMs within their RPO" and found.silent_jobs == ("new",) and not found.good
    assert [one.state for one in found.vms] == [State.UNKNOWN, State.GOOD]


def test_a_clock_that_went_back_makes_no_negative_age() -> None:
    (one,) = overview([row("vm", good_at=NOW + HOUR)], DAILY, NOW).vms
    assert one.age_s == 0 and one.within
