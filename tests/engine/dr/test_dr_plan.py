"""Decisions of a plan, without a pool."""

from __future__ import annotations

import pytest

from xobackup.engine.dr.failover import failed_over
from xobackup.engine.dr.plan import matches, original_name, unplaced
from xobackup.engine.job import VmRule
from xobackup.engine.keys import FAILED_OVER, temporary_name
from xobackup.engine.replication.points import ReplicaPoint


def point(name: str, job_id: str = "j") -> ReplicaPoint:
    return ReplicaPoint(
        ref="r",
        uuid="u",
        name=name,
        id="20260101T000000Z",
        timestamp_ms=1,
        job_id=job_id,
        schedule_id="",
        vm_uuid="v",
        sr_uuid="s",
        replica_ref="",
        taken_s=0.0,
        run_id="",
        by_xo=False,
        disks=(),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web - nightly 20260101T000000Z", "web"),
        ("web - a - nightly 20260101T000000Z", "web - a"),
        ("web - nightly - (20260101T000000Z)", "web"),
        ("web - other - job 20260101T000000Z", "web - other"),
        ("web", "web"),
    ],
)
def test_the_name_of_a_vm_is_read_from_its_restore_point(name: str, expected: str) -> None:
    assert original_name(point(name), {"j": "nightly"}) == expected


def test_a_job_with_a_dash_is_known_by_its_id() -> None:
    assert original_name(point("web - a - b 20260101T000000Z", "x"), {"x": "a - b"}) == "web"


def test_memory_is_asked_host_by_host() -> None:
    assert unplaced([4, 4], [8]) == 0
    assert unplaced([4, 4], [6, 2]) == 1
    assert unplaced([3, 5, 2], [5, 5]) == 0
    assert unplaced([1], []) == 1


def test_rules_need_all_their_keys() -> None:
    vm = {"uuid": "u", "name": "web-1", "tags": ("prod",)}
    assert matches(VmRule(name="web-*", tag="prod"), **vm)
    assert not matches(VmRule(name="web-*", tag="test"), **vm)
    assert not matches(VmRule(uuid="x", name="web-*"), **vm)


def test_only_the_vm_itself_counts_as_failed_over() -> None:
    def vm(own: str, name: str = "web", **fields: object) -> dict[str, object]:
        mark = {FAILED_OVER: f"p v 20260101T000000Z {own}"}
        return {"uuid": "me", "name_label": name, "other_config": mark, "power_state": "Halted", **fields}

    assert set(failed_over({"r": vm("me")}, "p")) == {"v"}
    assert not failed_over({"r": vm("me")}, "other plan")
    assert not failed_over({"r": vm("the original of a copy")}, "p")
    assert not failed_over({"r": vm("me", temporary_name("dr", "run"))}, "p")
    assert not failed_over({"r": vm("me", is_a_snapshot=True)}, "p")
