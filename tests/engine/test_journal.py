"""The journal is written as it happens, survives a torn line, and closes runs that never ended."""

import json
from pathlib import Path

import pytest

from xobackup.clock import FakeClock
from xobackup.engine.events import Event, RunEnded, RunStarted, Warned, event_kinds
from xobackup.engine.journal import (
    JsonLinesJournal,
    MemoryJournal,
    Tee,
    close_interrupted,
    journal_path,
    read_journal,
)

STARTED = RunStarted(run_id="r1", verb="run", job="n", job_id="j", version="0", host="h", pid=1)
ENDED = RunEnded(run_id="r1", outcome="ok", ok=1, failed=0, skipped=0, duration_s=1.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def open_journal(tmp_path: Path, clock: FakeClock) -> JsonLinesJournal:
    return JsonLinesJournal(journal_path(tmp_path, "r1", clock), clock)


def test_events_are_lines_with_time_and_kind(tmp_path: Path, clock: FakeClock) -> None:
    journal = open_journal(tmp_path, clock)
    journal.write(STARTED)
    journal.write(Warned(vm="v", message="müde"))
    records = read_journal(journal.path)
    assert [record["kind"] for record in records] == ["run-started", "warning"]
    warned = {"at_s": clock.now_s(), "kind": "warning", "vm": "v", "remote": "", "message": "müde", "code": ""}
    assert records[1] == warned
    journal.close()


def test_a_run_that_never_ended_is_closed_as_interrupted_once(tmp_path: Path, clock: FakeClock) -> None:
    journal = open_journal(tmp_path, clock)
    journal.write(STARTED)
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"at_s": 1, "kind": "warn')  # torn by the crash
    assert close_interrupted(tmp_path, clock) == ["r1"]
    assert close_interrupted(tmp_path, clock) == []
    assert [record["kind"] for record in read_journal(journal.path)] == ["run-started", "run-interrupted"]


def test_a_run_that_ended_or_still_lives_is_left_alone(tmp_path: Path, clock: FakeClock) -> None:
    ended = open_journal(tmp_path, clock)
    ended.write(STARTED)
    ended.write(ENDED)
    ended.close()
    clock.advance(1)
    living = open_journal(tmp_path, clock)
    living.write(STARTED)
    before = living.path.read_bytes()
    assert close_interrupted(tmp_path, clock) == []
    assert living.path.read_bytes() == before
    living.close()


def test_no_directory_means_nothing_to_close(tmp_path: Path, clock: FakeClock) -> None:
    assert close_interrupted(tmp_path / "none", clock) == []


def test_writing_after_close_is_harmless(tmp_path: Path, clock: FakeClock) -> None:
    journal = open_journal(tmp_path, clock)
    journal.close()
    journal.close()
    journal.write(STARTED)
    assert journal.path.read_bytes() == b""


def test_one_journal_feeds_several_sinks() -> None:
    one, two = MemoryJournal(), MemoryJournal()
    Tee(one, two).write(STARTED)
    assert one.of(RunStarted) == two.of(RunStarted) == [STARTED]


def test_every_kind_of_event_has_a_name_of_its_own() -> None:
    classes = {kind.__name__ for kind in Event.__subclasses__()}
    assert len(event_kinds()) == len(classes) > 10
    json.dumps(event_kinds())
