"""The database of a pool, fetched once and written to every remote: through the real client, over TLS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remotes import errors
from remotes.faults import Fault, Faults
from remotes.faulty import FaultyRemote
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from xobackup.engine import events
from xobackup.engine.job import METADATA, Settings
from xobackup.engine.report import PoolReport, RunReport
from xobackup.engine.run import plan_job
from xobackup.repository.pools.point import PoolPoint
from xotest.lab import Lab
from xotest.xo_rules import assert_pools_conformant, pool_points

ONLY_POOLS = Settings(mode=METADATA, retention=3, pool_metadata_retention=3, lock_wait_s=0)


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.settings = ONLY_POOLS
    return lab


def only(report: RunReport) -> PoolReport:
    assert report.vms == () and len(report.pools) == 1, report
    return report.pools[0]


def points(lab: Lab, remote: str = "nas") -> tuple[PoolPoint, ...]:
    listing = lab.repository(remote).pools().points()
    assert listing.problems == ()
    return listing.points


def assert_good(lab: Lab, remote: str = "nas") -> None:
    """Everything published is whole, is what the pool has, and what Xen Orchestra would write; the pool is tidy."""
    backups = lab.repository(remote).pools()
    for point in points(lab, remote):
        verdict = backups.verify(point)
        assert verdict.good and verdict.with_digest, verdict.problems
        assert verdict.summary is not None and [vm.name for vm in verdict.summary.vms] == ["guest"]
    assert_pools_conformant(lab.remotes[remote])
    lab.assert_tidy()
    assert not [task for task in lab.pool.model.records("task").values() if "xobackup" in task["name_label"]]


def test_a_run_saves_the_database_and_the_records_around_it(lab: Lab) -> None:
    pool = only(lab.run())
    (point,) = points(lab)
    assert pool.points == {"nas": point.id} and (pool.hosts, pool.vms) == (1, 1) and pool.size_bytes == point.size > 0
    (record,) = lab.pool.model.records("pool").values()
    assert (point.pool_uuid, pool.uuid) == (record["uuid"], record["uuid"])
    assert point.metadata["pool"]["master"] == record["master"] and point.metadata["poolMaster"]["software_version"]
    assert (point.job_name, point.job_id) == ("nightly", lab.job().id)
    assert_good(lab)
    (saved,) = lab.journal.of(events.PoolSaved)
    assert (saved.remote, saved.point) == ("nas", point.id)
    (ended,) = lab.journal.of(events.PoolEnded)
    assert (ended.outcome, ended.attempts) == ("ok", 1)
    assert lab.journal.of(events.RunEnded)[0].ok == 1


def test_retention_keeps_the_newest_on_each_remote(lab: Lab) -> None:
    lab.remotes["b"] = MemoryRemote(clock=lab.clock)
    reports = [only(lab.run()) for _ in range(5)]
    ids = [report.points["nas"] for report in reports]
    for remote in ("nas", "b"):
        assert [point.id for point in points(lab, remote)] == ids[2:]
        assert_good(lab, remote)
    assert reports[3].expired == {"nas": ids[:1], "b": ids[:1]} and reports[0].expired == {}


def test_the_plan_says_what_would_be_saved_and_expire(lab: Lab) -> None:
    ids = [only(lab.run()).points["nas"] for _ in range(3)]
    before = lab.pool.model.records("task")
    (plan,) = plan_job(lab.job(), lab.world()).pools
    assert (plan.remotes, plan.newest, plan.expires) == (("nas",), {"nas": ids[2]}, {"nas": ids[:1]})
    assert "always whole" in plan.reason and plan.pool == "lab"
    assert lab.pool.model.records("task") == before and len(points(lab)) == 3


def test_two_backups_within_a_second_have_two_names(lab: Lab) -> None:
    first, second = only(lab.run()), only(lab.run(after_s=0))
    assert first.points["nas"] < second.points["nas"]
    assert_good(lab)


@pytest.mark.parametrize("operation", ["create", "write_at", "sync", "put", "rename", "list"])
def test_a_remote_that_fails_does_not_cost_the_other(lab: Lab, operation: str) -> None:
    after_identity = 1 if operation == "put" else 0
    failing = Fault(error=errors.NoSpace, operation=operation, skip=after_identity)
    lab.remotes["full"] = FaultyRemote(MemoryRemote(clock=lab.clock), Faults(failing))  # type: ignore[assignment]
    pool = only(lab.run(expect="failed"))
    assert list(pool.points) == ["nas"] and "remote full: " in pool.reason
    assert_good(lab)
    assert pool_points(lab.remotes["full"]) == []
    assert [failed.remote for failed in lab.journal.of(events.Failed)] == ["full"]


def test_no_remote_left_is_a_failure_with_every_reason(lab: Lab) -> None:
    for name in ("nas", "b"):
        lab.remotes[name] = FaultyRemote(  # type: ignore[assignment]
            MemoryRemote(clock=lab.clock), Faults(Fault(error=errors.NoSpace, operation="write_at"))
        )
    pool = only(lab.run(expect="failed"))
    assert pool.points == {} and "nas: " in pool.reason and "b: " in pool.reason
    lab.assert_tidy()


@pytest.mark.parametrize("how", ["drop", "end", "error", "lie"])
def test_a_dump_that_is_not_whole_is_never_published(lab: Lab, how: str) -> None:
    lab.run()
    lab.pool.faults.break_transfer("dump", after_bytes=9000, how=how)
    pool = only(lab.run(expect="failed"))
    assert pool.points == {} and pool.reason
    assert len(points(lab)) == 1
    assert_good(lab)
    assert lab.repository().pools().clean_plan() == []
    assert list(only(lab.run()).points) == ["nas"]


def test_what_can_pass_is_tried_again_and_ends_with_one_verdict(lab: Lab) -> None:
    lab.with_settings(retries=1)
    lab.pool.faults.break_transfer("dump", after_bytes=9000, how="drop")
    pool = only(lab.run())
    assert pool.attempts == 2 and len(points(lab)) == 1
    assert [failed.will_retry for failed in lab.journal.of(events.Failed)] == [True]
    assert len(lab.journal.of(events.PoolEnded)) == 1
    assert_good(lab)


def test_a_session_that_was_lost_is_renewed(lab: Lab) -> None:
    lab.pool.faults.expire_session_at("task.create")
    assert list(only(lab.run()).points) == ["nas"]


def test_cancelling_cleans_up(lab: Lab) -> None:
    class Cancelling(MemoryRemote):
        def create(self, name):
            lab.cancel.cancel("enough")
            return super().create(name)

    lab.remotes["nas"] = Cancelling(clock=lab.clock)
    pool = only(lab.run(expect="cancelled"))
    assert pool.points == {} and pool_points(lab.remotes["nas"]) == []
    assert lab.repository().pools().clean_plan() == []
    lab.assert_tidy()


def test_a_job_for_vms_can_save_the_database_as_well(lab: Lab) -> None:
    lab.settings = Settings(retention=3, lock_wait_s=0, pool_metadata=True, pool_metadata_retention=1)
    for _ in range(2):
        report = lab.run()
        assert [vm.outcome for vm in report.vms] == ["ok"] and [pool.outcome for pool in report.pools] == ["ok"]
    assert len(points(lab)) == 1
    assert_good(lab)
    lab.check()


def test_the_vms_do_not_suffer_from_the_database(lab: Lab) -> None:
    lab.settings = Settings(retention=3, lock_wait_s=0, pool_metadata=True)
    lab.pool.faults.break_transfer("dump", after_bytes=9000, how="error")
    report = lab.run(expect="some-failed")
    assert [vm.outcome for vm in report.vms] == ["ok"] and [pool.outcome for pool in report.pools] == ["failed"]
    lab.check()


KILLS = [("create", "*/data", 1), ("sync", "*/data", 1), ("put", "*/metadata.json", 1), ("rename", "*.part", 1)]


@pytest.mark.parametrize(("operation", "name", "at"), [*KILLS, ("rename", "xo-pool-metadata-backups/*", 1)])
def test_killed_in_the_middle(lab: Lab, operation: str, name: str, at: int) -> None:
    path = lab.on_disk()
    lab.with_settings(pool_metadata_retention=1, retention=1)
    lab.run()
    kept = points(lab)
    done = run_child(lab, operation=operation, name=name, at=at)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert points(lab)[0] == kept[0]
    assert len(points(lab)) == (2 if name.startswith("xo-pool") else 1), "half of one has no name"
    assert list((lab.directory / "state" / "active").iterdir()), "its mark"
    lab.clock.advance(max(0.0, os.stat(path).st_mtime - lab.clock.now_s()) + 60)
    lab.remotes["nas"] = LocalRemote(path)
    assert list(only(lab.run()).points) == ["nas"]
    assert len(points(lab)) == 1
    assert_good(lab)
    part = list(path.glob(".xobackup/pool-metadata/*/*/*.part"))
    for one in part:
        for each in (one, *one.iterdir()):
            os.utime(each, (0, 0))
    lab.run()
    assert not list(path.glob(".xobackup/pool-metadata/*/*/*")), "an hour later nothing is left of it"


def run_child(lab: Lab, *, operation: str, name: str, at: int) -> subprocess.CompletedProcess[str]:
    plan = {
        "url": lab.pool.url,
        "username": lab.pool.username,
        "password": lab.pool.password,
        "ca": str(lab.pool.ca_pem_path),
        "repository": str(lab.directory / "repository"),
        "state": str(lab.directory / "state"),
        "directories": False,
        "mode": METADATA,
        "retention": 1,
        "signal": int(signal.SIGKILL),
        "at": at,
        "operation": operation,
        "name": name,
    }
    path = Path(lab.directory / "plan.json")
    path.write_text(json.dumps(plan))
    return subprocess.run(
        [sys.executable, "-m", "xotest.run_child", str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
