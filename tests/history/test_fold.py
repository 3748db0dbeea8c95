"""A journal becomes facts: whatever it holds, wherever it was cut."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xobackup.clock import FakeClock
from xobackup.engine import events
from xobackup.engine.journal import close_interrupted, read_journal
from xobackup.history.facts import INTERRUPTED, RUNNING, RunFacts
from xobackup.history.fold import fold
from xotest.journals import DATABASE, WEB, Story, one_run

START = 1_767_225_600.0


def facts(path: Path) -> RunFacts:
    found = fold(read_journal(path))
    assert found is not None
    return found


def test_a_run_as_it_should_be(tmp_path: Path) -> None:
    run = facts(one_run(tmp_path, FakeClock(START), "r1", outcomes={WEB: "ok", DATABASE: "failed"}))
    assert (run.run_id, run.job, run.verb, run.host, run.outcome) == ("r1", "nightly", "run", "backup-1", "failed")
    assert (run.began_at, run.ended_at, run.duration_s) == (START, START + 40, 40.0)
    assert run.count("ok") == 1 and run.count("failed") == 1 and run.read_bytes == 4 << 20
    web, database = run.subjects[WEB], run.subjects[DATABASE]
    assert (web.name, web.pool, web.mode, web.deltas, web.size_bytes) == ("web", "main", "delta", 1, 4 << 20)
    assert [(phase.phase, phase.ok, phase.duration_s) for phase in web.phases] == [
        ("prepare", True, 2.0),
        ("transfer", True, 10.0),
    ]
    assert [(one.via, one.bottleneck, one.reasons) for one in web.disks] == [("stream", "source", "no NBD here")]
    assert [(point.remote, point.point) for point in web.points] == [("nas", "20260101T000000Z")]
    assert (database.outcome, database.reason, database.mode) == ("failed", "the remote is full", "")
    assert [(one.level, one.error_class, one.hint) for one in database.messages] == [("error", "NoRoom", "make room")]
    assert database.began_at == START + 20 and database.ended_at == START + 40


def test_a_run_that_still_goes_on_and_one_whose_process_died(tmp_path: Path) -> None:
    clock = FakeClock(START)
    story = Story(tmp_path, clock, "r1")
    story.say(events.PhaseBegan(vm=WEB, phase="transfer"), after_s=5)
    living = facts(story.path)
    assert living.outcome == RUNNING and living.ended_at is None and living.subjects[WEB].outcome == RUNNING
    story.journal.close()
    clock.advance(86_400)
    assert close_interrupted(tmp_path, clock) == ["r1"]
    dead = facts(story.path)
    assert dead.outcome == INTERRUPTED and dead.ended_at == START + 5, "not when it was found"
    assert dead.subjects[WEB].outcome == INTERRUPTED and dead.subjects[WEB].phases[0].ok is None


def test_what_was_left_out_on_purpose_and_what_is_told_of_no_vm(tmp_path: Path) -> None:
    story = Story(tmp_path, FakeClock(START), "r1")
    story.say(events.VmSkippedEvent(vm=WEB, vm_name="web", why="excluded", reason="by rule"))
    story.say(events.Warned(message="the remote is nearly full", remote="nas"))
    story.say(events.Failed(vm=DATABASE, error="gone", error_class="X", will_retry=True))
    story.say(events.FellBackToFull(vm=DATABASE, disk="d", disk_name="data", why="lost", reason="the base is gone"))
    story.say(events.PoolSaved(pool="p", pool_name="main", remote="nas", point="x", size_bytes=7))
    story.say(events.PoolEnded(pool="p", pool_name="main", outcome="ok", attempts=1, duration_s=1, size_bytes=7))
    story.say(
        events.StorageUsed(remote="s3", requests={"put": 3, "get": 2}, repeated=1, sent_bytes=5, received_bytes=6)
    )
    run = facts(story.end())
    assert run.subjects[WEB].outcome == "skipped" and run.subjects[WEB].reason == "by rule"
    assert [(one.level, one.text, one.remote) for one in run.messages] == [
        ("warning", "the remote is nearly full", "nas")
    ]
    tried = run.subjects[DATABASE]
    assert [one.level for one in tried.messages] == ["warning", "warning"] and tried.fallbacks == 1
    assert tried.outcome == INTERRUPTED, "its run ended without a word on it"
    assert (run.subjects["p"].kind, run.subjects["p"].outcome, run.subjects["p"].size_bytes) == ("pool", "ok", 7)
    assert [(one.remote, one.requests, one.repeated) for one in run.traffic] == [("s3", 5, 1)]


def test_every_kind_of_event_is_taken_or_passed_over(tmp_path: Path) -> None:
    for kind, names in events.event_kinds().items():
        record: dict[str, Any] = {"at_s": START, "kind": kind, **dict.fromkeys(names)}
        started = {"at_s": START, "kind": "run-started", "run_id": "r1"}
        assert fold([started, record]) is not None, kind


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(min_value=0, max_value=6000))
def test_wherever_a_crash_cuts_the_file_there_is_a_run_or_nothing(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("cut")
    path = one_run(directory, FakeClock(START), "r1", outcomes={WEB: "ok", DATABASE: "failed"})
    path.write_bytes(path.read_bytes()[:cut])
    found = fold(read_journal(path))
    assert found is None or found.run_id == "r1"
