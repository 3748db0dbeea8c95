"""Journals get into the database, each as often as it grew; nothing is deleted that is not there as it is now."""

from pathlib import Path

from xobackup.clock import FakeClock
from xobackup.engine import events
from xobackup.engine.journal import close_interrupted
from xobackup.history import ask
from xobackup.history.collect import catch_up, remove_old_journals
from xobackup.history.store import Store
from xotest.journals import WEB, Story, one_run


def test_new_files_and_grown_ones_are_read_the_others_are_not(store: Store, journals: Path, clock: FakeClock) -> None:
    one_run(journals, clock, "r1")
    story = Story(journals, clock, "r2")
    story.say(events.PhaseBegan(vm=WEB, phase="transfer"))
    heard: list[tuple[int, int]] = []
    assert catch_up(store, journals, progress=lambda done, of: heard.append((done, of))).runs == 2
    assert heard == [(1, 2), (2, 2)]
    assert {row["run_id"]: row["outcome"] for row in ask.runs(store)} == {"r1": "ok", "r2": "running"}
    assert catch_up(store, journals).runs == 0
    story.vm(WEB)
    story.end()
    assert catch_up(store, journals).runs == 1
    assert {row["run_id"]: row["outcome"] for row in ask.runs(store)} == {"r1": "ok", "r2": "ok"}


def test_a_run_that_died_is_closed_at_the_next_look(store: Store, journals: Path, clock: FakeClock) -> None:
    story = Story(journals, clock, "r1")
    catch_up(store, journals)
    story.journal.close()
    with story.path.open("ab") as file:
        file.write(b'{"torn')
    clock.advance(60)
    close_interrupted(journals, clock)
    catch_up(store, journals)
    assert [row["outcome"] for row in ask.runs(store)] == ["interrupted"]


def test_files_that_tell_of_no_run(store: Store, journals: Path, clock: FakeClock) -> None:
    one_run(journals, clock, "r1")
    odd = (
        b"\xff\xfe\0",
        b"",
        b'{"kind":"warning"}\n',
        b"[1]\n",
        b'{"kind":"run-began","run_id":"x","job":"j","at":"yesterday"}\n',
        b'{"kind":"run-began","run_id":"x","job":"j","at":1e999,"vms":5}\n',
    )
    for number, content in enumerate(odd):
        (journals / f"{number}-x.jsonl").write_bytes(content)
    found = catch_up(store, journals)
    assert found.runs == 1 and sorted(path.name[:1] for path in found.unreadable) == ["0", "1", "2", "3", "4", "5"]
    assert catch_up(store, journals / "nowhere").runs == 0


def test_only_journals_that_are_in_the_database_and_old_are_deleted(
    store: Store, journals: Path, clock: FakeClock
) -> None:
    old = one_run(journals, clock, "r1")
    clock.advance(1)
    grown = one_run(journals, clock, "r2")
    clock.advance(1)
    living = Story(journals, clock, "r3")
    clock.advance(1)
    unknown = one_run(journals, clock, "r4")
    hidden = unknown.rename(journals / "aside")
    catch_up(store, journals)
    hidden.rename(unknown)
    with grown.open("ab") as file:
        file.write(b"\n")
    clock.advance(86_400)
    young = one_run(journals, clock, "r5")
    other = journals / "notes.jsonl"
    other.write_bytes(old.read_bytes())
    assert remove_old_journals(store, journals, before_s=clock.now_s() - 3600) == [old]
    assert all(path.exists() for path in (grown, living.path, unknown, young, other)) and not old.exists()
    living.journal.close()
    assert catch_up(store, journals).runs == 4, "the grown, the unknown, the young one, and the copy of the old one"
    assert len(ask.runs(store)) == 5
