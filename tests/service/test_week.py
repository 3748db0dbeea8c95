"""A week of 50 VMs on four schedules, in four processes of which one is killed, is what the calendar says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from xobackup.engine.journal import read_journal
from xobackup.history import ask, schema
from xobackup.history.collect import catch_up
from xobackup.history.store import open_store
from xotest.site import environment
from xotest.week import BEGIN, DONE_BEFORE_IT_HANGS, VMS, WEEK, expected, vms_of

END = BEGIN + timedelta(days=7)
SUPPORT = Path(__file__).resolve().parents[1] / "support"
TWICE = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
"""02:30 in Paris, for the first time in the night in which it comes twice."""


def process(directory: Path, begin: datetime, until: datetime, *hang: str) -> subprocess.Popen[str]:
    start = [
        sys.executable,
        "-m",
        "xotest.week",
        str(directory),
        str(begin.timestamp()),
        str(until.timestamp()),
        *hang,
    ]
    path = environment()["PYTHONPATH"]
    return subprocess.Popen(start, stdout=subprocess.PIPE, text=True, env=environment(PYTHONPATH=f"{SUPPORT}:{path}"))


def lived(directory: Path, begin: datetime, until: datetime) -> str:
    told, _ = process(directory, begin, until).communicate(timeout=120)
    return told


def test_a_week_fires_exactly_what_the_calendar_says_through_two_restarts_and_a_sigkill(tmp_path: Path) -> None:
    day = [BEGIN + timedelta(days=number) for number in range(7)]
    assert lived(tmp_path, BEGIN, day[2]) == ""
    with process(tmp_path, day[2], END, "nightly", str(TWICE.timestamp())) as doomed:
        assert doomed.stdout is not None and doomed.stdout.readline() == "hangs\n"
        doomed.kill()
    again = lived(tmp_path, TWICE + timedelta(minutes=7), day[5])
    assert again.count("did not end: it is begun again") == 1 and "nightly" in again
    assert lived(tmp_path, day[5], END) == ""

    runs = [read_journal(path) for path in sorted((tmp_path / "journal").iterdir())]
    ended = Counter((one[0]["job"], nominal(one)) for one in runs if one[-1]["kind"] == "run-ended")
    assert ended == Counter(expected(WEEK, BEGIN, END + timedelta(seconds=1)))
    assert {name for name, _ in ended} == set(VMS) and sum(VMS.values()) == 50
    assert ("nightly", TWICE) in ended and len([1 for name, _ in ended if name == "nightly"]) == 7
    (cut,) = [one for one in runs if one[-1]["kind"] != "run-ended"]
    assert cut[-1]["kind"] == "run-interrupted" and nominal(cut) == TWICE
    assert [one["vm"] for one in cut if one["kind"] == "vm-ended"] == vms_of("nightly")[:DONE_BEFORE_IT_HANGS]

    store = open_store("sqlite:///:memory:")
    catch_up(store, tmp_path / "journal")
    with store.reading() as connection:
        s = schema.subjects.c
        count = sa.select(s.name, sa.func.count()).where(s.outcome == "ok").group_by(s.name)
        backups = {row[0]: row[1] for row in connection.execute(count)}
    assert backups == {
        vm: len([1 for name, _ in ended if name == schedule]) + (vm in vms_of("nightly")[:DONE_BEFORE_IT_HANGS])
        for schedule in VMS
        for vm in vms_of(schedule)
    }
    assert len(ask.latest(store)) == 50 and {row["outcome"] for row in ask.latest(store)} == {"ok"}
    store.close()


def nominal(run: list[dict[str, object]]) -> datetime:
    """For which time it ran: paper has it in its id."""
    return datetime.fromtimestamp(int(str(run[0]["run_id"]).split("-")[1]), tz=UTC)
