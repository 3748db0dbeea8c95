"""What is unusual: schedules that do not start, jobs that only make fulls, VMs without a job; and when it is over."""

from __future__ import annotations

import json

import pytest

from xobackup.history.standing import Objective, Overview, overview
from xobackup.notify.decide import decide
from xobackup.notify.oddities import Oddities, ScheduleFacts, grouped, named
from xobackup.notify.troubles import Kind, Seen

DAY = 86_400.0
NOW = 100 * DAY


def found(**rows: dict[str, object]) -> Overview:
    usual = {
        "kind": "vm", "pool": "p", "job": "nightly", "run_id": "r", "began_at": NOW, "ended_at": NOW, "outcome": "ok",
        "reason": "", "mode": "delta", "good_at": NOW, "good_run_id": "r", "failures": 0,
    }  # fmt: skip
    named_rows = [{**usual, "uuid": name, "name": name, **row} for name, row in rows.items()]
    return overview(named_rows, {"nightly": Objective(rpo_s=DAY, why="")}, NOW)


def seen(**rows: dict[str, object]) -> Seen:
    looked = Seen()
    looked.vms(found(**rows))
    return looked


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, ""),
        ({"paused": "the array moves", "last_began": NOW - 12 * DAY}, "paused (the array moves), and its jobs began"),
        ({"paused": "", "last_began": NOW - 2 * DAY}, ""),
        ({"paused": "", "last_began": None}, ""),
        ({"starts": False, "ahead_days": 366}, "no start within the next 366 days"),
        ({"starts": False, "enabled": False}, ""),
        ({"missed": 3, "missed_since": NOW - 3 * DAY}, "3 starts of its calendar came to nothing, the first one 3 d"),
        ({"missed": 1, "missed_since": NOW - DAY}, ""),
    ],
)
def test_a_schedule_that_does_not_start(facts: dict[str, object], told: str) -> None:
    odd = Oddities()
    odd.schedules([ScheduleFacts(name="night", **facts)], NOW)  # type: ignore[arg-type]
    assert [told in one.text for one in odd.all] == ([True] if told else [])
    assert odd.judged == (set() if facts.get("enabled") is False else {"odd schedule night"})


def test_a_job_whose_every_run_is_full() -> None:
    always = {"known": 9, "fulls": 9, "full_reason": "the pool does not track\nchanged blocks"}
    odd = Oddities()
    odd.jobs(found(a=always, b={**always, "known": 5, "fulls": 5}, new={"known": 1, "fulls": 1}), {"nightly"})
    (one,) = odd.all
    assert "every run is full: 2 VMs, the last 5 runs of each and no delta" in one.text
    assert "because the pool does not track changed blocks" in one.text and "plan nightly" in one.advice
    for rows, jobs in (({"a": always, "b": {"known": 9, "fulls": 3}}, {"nightly"}), ({"a": always}, set())):
        odd = Oddities()
        odd.jobs(found(**rows), jobs)
        assert not odd.all


def test_a_vm_without_a_job_is_told_once_and_is_over_when_it_has_one() -> None:
    def look(*names: str) -> Seen:
        odd, looked = Oddities(), Seen()
        odd.pools([{"pool": "main", "unprotected": json.dumps([{"uuid": one, "name": one} for one in names])}])
        looked.oddities(odd)
        return looked

    message, known = decide(look("a", "b"), {}, now=0, repeat_s=DAY)
    assert message is not None and message.title == "xobackup: 2 new troubles"
    assert "what to do: add it to a job" in message.body and message.as_data()["new"][0]["advice"]
    message, known = decide(look("b", "c"), known, now=1, repeat_s=DAY)
    assert message is not None and [one.about for one in message.new] == ["c"]
    assert [one.about for one in message.over] == ["a"]
    assert decide(Seen(), known, now=2, repeat_s=DAY) == (None, known), "nobody asked the pool: nothing is known"


def test_by_a_vms_own_history() -> None:
    odd = Oddities()
    told = [{"code": "delta", "text": "its delta\nis large", "advice": "look"}]
    odd.vms(found(a={"known": 9, "odd": json.dumps(told)}, b={"known": 9}, c={}))
    assert [(one.uuid, one.text) for one in odd.all] == [("a", "its delta is large")]
    assert "odd delta nightly b" in odd.judged and "odd delta nightly c" not in odd.judged


def test_a_disk_read_whole_stands_until_a_backup_is_as_it_should_be() -> None:
    looked = seen(a={"fallbacks": 2, "full_reason": "it moved"}, b={"fallbacks": 0}, old={})
    (one,) = looked.troubles
    assert (one.kind, one.about) == (Kind.FULL, "a") and one.text.startswith("2 disks were read whole although")
    assert {"full nightly a", "full nightly b"} <= looked.judged and "full nightly old" not in looked.judged


def test_damage_is_over_only_when_everything_was_looked_at_again() -> None:
    row = {
        "what": "blocks", "uuid": "u", "remote": "nas", "name": "web\r\nBcc: x", "damaged_at": 5.0,
        "damage": "block 7", "hint": "", "job": "", "whole_at": None,
    }  # fmt: skip
    for whole_at, standing in ((None, True), (4.0, True), (6.0, False)):
        looked = Seen()
        looked.damage([{**row, "whole_at": whole_at}, {**row, "what": "boot", "whole_at": 9.0}])
        assert bool(looked.troubles) is standing
        assert looked.judged == {"damage blocks u nas", "damage boot u nas"}
    looked = Seen()
    looked.damage([row])
    (one,) = looked.troubles
    assert one.about == "web Bcc: x" and one.text == "its backups on nas are damaged: block 7"
    assert "verify" in one.advice


def test_locks() -> None:
    def said(vm: str, error_class: str, level: str = "error") -> dict[str, str]:
        return {
            "job": "nightly", "uuid": vm, "name": vm, "error_class": error_class, "remote": "nas", "text": "by XO",
            "level": level,
        }  # fmt: skip

    rows = [said("a", "LockHeld"), said("b", "LockHeld", "warning"), said("c", "not-locked", "warning")]
    rows += [said("d", "endless", "info"), said("going", "LockLost")]
    looked = Seen()
    looked.locks(found(a={}, b={}, c={}, d={}, going={"outcome": "running"}), rows)
    assert {one.about: one.text for one in looked.troubles} == {
        "a": "nas: its lock could not be had: by XO",
        "c": "nas: the storage does not lock what was written: by XO",
        "d": "nas: retention waits for ever: by XO",
    }
    assert "lock nightly b" in looked.judged and "lock nightly going" not in looked.judged


def test_what_says_the_same_is_shown_as_one() -> None:
    odd = Oddities()
    odd.pools([{"pool": "main", "unprotected": json.dumps([{"uuid": str(n), "name": f"vm{n}"} for n in range(9)])}])
    ((_, names),) = grouped(odd.all)
    assert named(names) == "vm0, vm1, vm2, vm3, vm4 and 4 more"
