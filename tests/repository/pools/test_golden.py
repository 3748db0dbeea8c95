"""What Xen Orchestra itself wrote: listed, left alone, and written again to the byte."""

from __future__ import annotations

import json

from remotes.local import LocalRemote
from xobackup.clock import FakeClock
from xobackup.repository.pools.point import PoolDraft
from xobackup.repository.repository import Repository
from xotest import golden
from xotest.pool_dumps import HOST, JOB, POOL, SCHEDULE

ID = "20261120T214653Z"


def backups():
    root = golden.pristine("full-and-pool").root
    return root, Repository(LocalRemote(root), clock=FakeClock(1_900_000_000)).pools()


def test_its_backup_of_a_pool_is_listed() -> None:
    _, found = backups()
    listing = found.points()
    assert listing.problems == ()
    (point,) = listing.points
    assert (point.id, point.schedule_id, point.pool_uuid, point.job_id) == (ID, SCHEDULE, POOL, JOB)
    assert (point.pool_name, point.master_uuid, point.master_name) == ("oracle pool", HOST, "host1")
    assert (point.timestamp_ms, point.size, point.job_name) == (1795211213173, 11, "meta job")
    assert found.points(pool=HOST).points == () and found.newest(SCHEDULE, POOL) == ID


def test_its_configuration_backups_are_told_about_and_never_touched() -> None:
    _, found = backups()
    (config,) = found.configs()
    assert (config.id, config.schedule_id, config.job_name) == (ID, SCHEDULE, "meta job")
    assert config.size > 0
    assert found.clean_plan() == []


def test_its_description_is_written_again_to_the_byte() -> None:
    root, _ = backups()
    raw = (root / "xo-pool-metadata-backups" / SCHEDULE / POOL / ID / "metadata.json").read_bytes()
    value = json.loads(raw)
    draft = PoolDraft(
        job_id=value["jobId"],
        job_name=value["jobName"],
        schedule_id=value["scheduleId"],
        schedule_name=value["scheduleName"],
        timestamp_ms=value["timestamp"],
        pool=value["pool"],
        master=value["poolMaster"],
    )
    assert draft.encode() == raw and draft.point == ID


def test_a_dump_that_holds_no_pool_is_damage_without_a_digest() -> None:
    _, found = backups()
    (point,) = found.points().points
    verdict = found.verify(point)
    assert [problem.code for problem in verdict.problems] == ["pool-dump"] and verdict.damaged
    assert not verdict.with_digest and "it holds no pool" in str(verdict.problems[0])
