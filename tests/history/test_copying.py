"""A history into a file and back, from either database into either."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from xobackup.clock import FakeClock
from xobackup.engine.events import PointPublished, RunEnded, RunStarted, VmEnded
from xobackup.engine.journal import JsonLinesJournal, journal_path
from xobackup.history import ask, schema
from xobackup.history.collect import catch_up
from xobackup.history.copying import load, save
from xobackup.history.errors import HistoryError
from xobackup.history.store import Store, default_url, open_store


def run(journals: Path, number: int, clock: FakeClock) -> None:
    clock.advance(3600)
    run_id = f"00000000-0000-4000-8000-{number:012}"
    journal = JsonLinesJournal(journal_path(journals, run_id, clock), clock)
    journal.write(RunStarted(run_id=run_id, verb="run", job="j", job_id="i", version="1", host="h", pid=1))
    journal.write(PointPublished(vm="v1", remote="nas", point="p", size_bytes=5))
    journal.write(VmEnded(vm="v1", vm_name="web ü", outcome="ok", attempts=1, duration_s=1.0, read_bytes=9))
    journal.write(RunEnded(run_id=run_id, outcome="ok", ok=1, failed=0, skipped=0, duration_s=2.0))
    journal.close()


def content(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.reading() as connection:
        tables = schema.metadata.sorted_tables
        return {one.name: sorted(tuple(row) for row in connection.execute(sa.select(one))) for one in tables}


def test_all_of_it_comes_back_and_goes_on(store: Store, journals: Path, clock: FakeClock, tmp_path: Path) -> None:
    run(journals, 1, clock)
    run(journals, 2, clock)
    catch_up(store, journals)
    store.put_sample({"at": 1.0, "remote": "nas", "used_bytes": 1, "free_bytes": None, "problem": ""})
    before = content(store)
    assert all(before[name] for name in ("runs", "subjects", "points", "latest", "samples", "files"))
    path = tmp_path / "copy.db"
    save(store, path)
    save(store, path)  # over an older one
    assert [one.name for one in tmp_path.glob("copy.db*")] == ["copy.db"]
    with pytest.raises(HistoryError, match="is not empty"):
        load(path, store)
    with store.writing() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(sa.delete(table))
    other = open_store(default_url(tmp_path / "other"))
    for target in (store, other):
        assert load(path, target) == 2 and content(target) == before
    run(journals, 3, clock)
    for target in (store, other):  # numbers of rows go on after those that were brought
        assert catch_up(target, journals).runs == 1
        assert len(ask.runs(target, limit=9)) == 3 and ask.latest(target)[0]["name"] == "web ü"
    other.close()
    (tmp_path / "damaged").write_bytes(b"no database at all" * 100)
    third = open_store(default_url(tmp_path / "third"))
    with pytest.raises(HistoryError):
        load(tmp_path / "damaged", third)
    third.close()
