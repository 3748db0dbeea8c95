"""``history`` and ``status``: after real runs, and over journals that were made up."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from xobackup.clock import FakeClock, SystemClock
from xotest.journals import DATABASE, WEB, one_run
from xotest.site import Site

HOUR = 3600


@pytest.fixture
def told(copied: Site) -> Site:
    """Two nights: the database failed in the second one, which is three hours ago."""
    clock = FakeClock(SystemClock().now_s() - 27 * HOUR)
    one_run(copied.state / "journal", clock, "aaaa-1", outcomes={WEB: "ok", DATABASE: "ok"})
    clock.advance(24 * HOUR - 40)
    one_run(copied.state / "journal", clock, "bbbb-2", outcomes={WEB: "ok", DATABASE: "failed"})
    return copied


def test_a_real_run_is_in_the_history_when_it_ends(site: Site) -> None:
    site.configure()
    site.xobackup("run")
    assert (site.state / "history.db").exists()
    (run,) = site.xobackup("history", "list", "--json").of("run")
    assert (run["job"], run["outcome"], run["ok"]) == ("nightly", "ok", 2)
    (shown,) = site.xobackup("history", "show", run["run_id"][:6], "--json").of("run")
    web = next(one for one in shown["subjects"] if one["name"] == "web")
    assert (web["pool"], web["mode"], web["fulls"], web["outcome"]) == ("sim", "full", 2, "ok")
    assert {phase["phase"] for phase in web["phases"]} >= {"prepare", "snapshot", "transfer", "publish"}
    assert all(phase["ok"] for phase in web["phases"]) and len(web["disks"]) == 2 and len(web["points"]) == 1
    text = site.xobackup("history", "show", run["run_id"]).out
    assert "web: ok in" in text and "nas: restore point" in text and "snapshot" in text


def test_a_history_that_cannot_be_written_costs_no_backup(site: Site) -> None:
    site.configure()
    site.state.mkdir()
    (site.state / "history.db").write_bytes(b"this is no database" * 100)
    result = site.xobackup("run")
    assert "the history was not written" in result.err and "history rebuild" in result.err
    assert "history rebuild" in site.xobackup("history", "list", code=1).err
    rebuilt = site.xobackup("history", "rebuild")
    assert "1 run taken from the journals" in rebuilt.out
    (aside,) = site.state.glob("history.db.*.aside")
    assert aside.read_bytes().startswith(b"this is no database")
    assert [run["outcome"] for run in site.xobackup("history", "list", "--json").of("run")] == ["ok"]


def test_lists_can_be_narrowed(told: Site) -> None:
    assert [run["run_id"] for run in told.xobackup("history", "list", "--json").of("run")] == ["bbbb-2", "aaaa-1"]
    assert "aaaa-1" not in told.xobackup("history", "list", "--outcome", "failed").out
    assert told.xobackup("history", "list", "--job", "other").out.strip() == "no run is known"
    rows = told.xobackup("history", "vm", "database", "--json").of("vm-run")
    assert [(row["run_id"], row["outcome"]) for row in rows] == [("bbbb-2", "failed"), ("aaaa-1", "ok")]
    assert "the remote is full" in told.xobackup("history", "vm", DATABASE).out


def test_what_is_not_there_is_said(told: Site) -> None:
    assert "no run's id begins with 'x'" in told.xobackup("history", "show", "x", code=2).err
    one_run(told.state / "journal", FakeClock(), "aaaa-9")
    assert "give more of it" in told.xobackup("history", "show", "aaaa", code=2).err
    assert "xobackup status" in told.xobackup("history", "vm", "nobody", code=2).err


def test_a_vm_that_is_gone_for_good_is_forgotten_its_runs_are_not(told: Site) -> None:
    told.configure('rpo = "26h"')
    assert "nothing called 'nobody'" in told.xobackup("history", "forget", "nobody", code=2).err
    assert "nothing called" in told.xobackup("history", "forget", "database", "--job", "other", code=2).err
    assert "no longer counted in 1 job" in told.xobackup("history", "forget", "database").out
    assert "1 of 1 VMs within their RPO" in told.xobackup("status").out
    assert "nothing called" in told.xobackup("history", "forget", "database", code=2).err
    assert len(told.xobackup("history", "vm", "database", "--json").of("vm-run")) == 2
    clock = FakeClock(SystemClock().now_s() - 60)
    one_run(told.state / "journal", clock, "cccc-3", outcomes={WEB: "ok", DATABASE: "failed"})
    assert "1 of 2 VMs" in told.xobackup("status", code=3).out, "a run that knows it counts it again"


def test_status_by_an_objective_of_the_job(told: Site) -> None:
    told.configure('rpo = "26h"')
    result = told.xobackup("status", code=3)
    assert "1 of 2 VMs within their RPO" in result.out and "1 VM without a backup" in result.err
    assert result.out.index("database") < result.out.index("web"), "who needs somebody comes first"
    assert "the remote is full" in result.out and "26 h" in result.out
    assert "web" not in told.xobackup("status", "--problems", code=3).out
    vms = {vm["name"]: vm for vm in told.xobackup("status", "--json", code=3).of("vm")}
    assert (vms["database"]["state"], vms["database"]["failures"], vms["web"]["state"]) == ("late", 1, "good")
    told.configure('rpo = "2d"')
    assert "2 of 2 VMs within their RPO" in told.xobackup("status").out


def test_status_by_the_schedule(told: Site) -> None:
    text = told.config.read_text()
    told.config.write_text(text + '[schedules.s]\njobs = ["nightly"]\nevery = "1h"\n')
    assert "0 of 2 VMs" in told.xobackup("status", code=3).out
    told.config.write_text(text + '[schedules.s]\njobs = ["nightly"]\ncron = "0 3 * * *"\n')
    assert "2 of 2 VMs" in told.xobackup("status").out, "a day, and twelve hours of grace"


def test_nagios(told: Site, tmp_path: Path) -> None:
    told.configure('rpo = "26h"')
    result = told.xobackup("status", "--nagios", code=2)
    assert result.out.startswith(
        "XOBACKUP CRITICAL - 1 of 2 VMs within their RPO; database (late, job nightly) | vms=2 "
    )
    told.configure('rpo = "2d"')
    assert told.xobackup("status", "--nagios", code=1).out.startswith("XOBACKUP WARNING - 2 of 2 VMs")
    one_run(
        told.state / "journal", FakeClock(SystemClock().now_s() - 60), "cccc-3", outcomes={WEB: "ok", DATABASE: "ok"}
    )
    good = told.xobackup("status", "--nagios")
    assert good.out.startswith("XOBACKUP OK - 2 of 2 VMs within their RPO | vms=2 within=2 failing=0 oldest=")
    told.config.write_text("nonsense = 1\n")
    assert told.xobackup("status", "--nagios", code=3).out.startswith("XOBACKUP UNKNOWN - ")


def test_old_journals_go_once_they_are_in_the_database(site: Site) -> None:
    site.configure()
    old = one_run(site.state / "journal", FakeClock(), "old")
    site.xobackup("run")
    assert not old.exists() and len(list((site.state / "journal").glob("*.jsonl"))) == 1
    assert [run["run_id"] for run in site.xobackup("history", "list", "--json").of("run")][1:] == ["old"]
    connection = sqlite3.connect(site.state / "history.db")
    assert connection.execute("SELECT count(*) FROM phases WHERE error IS NOT NULL").fetchone()[0]
    connection.close()
