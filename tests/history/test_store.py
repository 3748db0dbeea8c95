"""The database: one transaction per run, the same run as often as one likes, and errors that say what to do."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from xobackup.clock import FakeClock
from xobackup.engine.journal import read_journal
from xobackup.history import ask, schema
from xobackup.history.errors import HistoryDamaged, HistoryError, HistoryTooNew, HistoryUnavailable
from xobackup.history.facts import RunFacts, SubjectFacts
from xobackup.history.fold import fold
from xobackup.history.migrations import HEAD, KNOWN
from xobackup.history.store import Store, default_url, open_store, with_password
from xotest.journals import DATABASE, WEB, one_run


def run_of(journals: Path, clock: FakeClock, run_id: str, **more: Any) -> RunFacts:
    found = fold(read_journal(one_run(journals, clock, run_id, **more)))
    assert found is not None
    return found


def counts(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        tables = schema.metadata.sorted_tables
        return {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in tables
        }


def test_the_steps_make_the_tables_that_the_program_knows(store: Store) -> None:
    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    versions = Path(schema.__file__).parent / "migrations" / "versions"
    assert sorted(path.name[:4] for path in versions.glob("[0-9]*.py")) == sorted(KNOWN)


def test_the_same_run_twice_is_there_once(store: Store, journals: Path, clock: FakeClock) -> None:
    run = run_of(journals, clock, "r1", outcomes={WEB: "ok", DATABASE: "failed"})
    store.put(run)
    once = counts(store)
    store.put(run)
    assert counts(store) == once
    assert once["runs"] == 1 and once["subjects"] == 2 and once["phases"] == 4 and once["points"] == 1


def test_several_write_the_same_run_and_others_at_once(url: str, journals: Path, clock: FakeClock) -> None:
    runs = [run_of(journals, clock, f"r{number}") for number in range(6)]
    stores = [open_store(url) for _ in range(3)]
    failed: list[Exception] = []

    def write(store: Store) -> None:
        try:
            for run in runs:
                store.put(run)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert counts(stores[0])["runs"] == 6 and counts(stores[0])["subjects"] == 6
    for store in stores:
        store.close()


def test_a_write_that_fails_leaves_what_was_there(store: Store, journals: Path, clock: FakeClock) -> None:
    run = run_of(journals, clock, "r1")
    store.put(run)
    before = counts(store)
    run.subjects[WEB].phases[0].phase = None  # type: ignore[assignment]
    with pytest.raises(HistoryError):
        store.put(run)
    assert counts(store) == before


def test_what_a_guest_calls_itself_may_be_anything(store: Store) -> None:
    name = "\0<script>\ud800" + "ü" * 4096
    subject = SubjectFacts(uuid=WEB * 9, name=name, reason="\0", outcome="ok", pool="p" * 999)
    store.put(RunFacts(run_id="r1", job="j" * 500, subjects={subject.uuid: subject}, ended_at=1.0, outcome="ok"))
    (row,) = ask.latest(store)
    assert row["name"].startswith("\ufffd<script>?ü") and len(row["name"]) == len(name)
    assert len(row["pool"]) == 128


def test_latest_does_not_depend_on_the_order_in_which_runs_come(
    store: Store, journals: Path, clock: FakeClock
) -> None:
    began = {}
    runs = []
    for number, outcome in enumerate(["ok", "failed", "ok", "failed", "failed"]):
        clock.advance(3600)
        began[number] = clock.now_s()
        runs.append(run_of(journals, clock, f"r{number}", outcomes={WEB: outcome}))
    for number in (3, 0, 4, 2, 1):
        store.put(runs[number])
    (row,) = ask.latest(store)
    assert (row["run_id"], row["outcome"], row["failures"]) == ("r4", "failed", 2)
    assert (row["good_at"], row["good_run_id"]) == (began[2], "r2")


def test_pruning_takes_the_depth_first_and_keeps_the_last_good(
    store: Store, journals: Path, clock: FakeClock
) -> None:
    good_at = clock.now_s()
    store.put(run_of(journals, clock, "r1"))
    clock.advance(86_400)
    store.put(run_of(journals, clock, "r2", outcomes={WEB: "failed"}))
    assert store.prune(runs_before=0, details_before=clock.now_s() - 3600) == (0, 1)
    depth = ask.run(store, "r1")
    assert depth is not None and depth["subjects"][0]["phases"] == [] and depth["outcome"] == "ok"
    assert store.prune(runs_before=clock.now_s() - 3600, details_before=0) == (1, 0)
    assert ask.run(store, "r1") is None
    clock.advance(86_400)
    store.put(run_of(journals, clock, "r3", outcomes={WEB: "failed"}))
    (row,) = ask.latest(store)
    assert (row["good_at"], row["good_run_id"], row["run_id"]) == (good_at, "r1", "r3")


def test_tables_of_a_newer_program_are_left_alone(url: str, store: Store) -> None:
    with store.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(HistoryTooNew, match=f"9999, known: {HEAD}"):
        open_store(url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"not a database" * 200)
    with pytest.raises(HistoryDamaged) as told:
        open_store(default_url(tmp_path))
    assert "rebuild" in told.value.hint and str(tmp_path) in str(told.value)


def test_a_database_that_somebody_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journals: Path) -> None:
    monkeypatch.setattr("xobackup.history.store.BUSY_S", 0.1)
    store = open_store(default_url(tmp_path))
    other = sqlite3.connect(tmp_path / "history.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(HistoryUnavailable, match="locked") as told:
        store.put(run_of(journals, FakeClock(), "r1"))
    assert "next run" in told.value.hint
    other.close()
    store.close()


def test_what_is_written_is_on_disk(tmp_path: Path) -> None:
    """Journals are deleted on the word of the database that it has them."""
    store = open_store(default_url(tmp_path))
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


def test_a_full_disk(tmp_path: Path, journals: Path) -> None:
    store = open_store(default_url(tmp_path))

    def full(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # it stays at what there is

    sa.event.listen(store.engine, "connect", full)
    store.engine.dispose()
    big = run_of(journals, FakeClock(), "r1", outcomes={f"{number:08}": "ok" for number in range(200)})
    with pytest.raises(HistoryUnavailable, match="full") as told:
        store.put(big)
    assert "room" in told.value.hint
    assert counts(store)["runs"] == 0
    store.close()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HistoryUnavailable) as told:
        open_store(with_password(f"postgresql://somebody@/db?host={tmp_path}", "very secret"))
    assert "very secret" not in str(told.value) and "somebody" in str(told.value) and told.value.hint


@pytest.mark.parametrize("url", ["mysql://x/y", "no url", "oracle://x"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(HistoryError):
        open_store(url)
