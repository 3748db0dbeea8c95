"""Xen Orchestra's own rules (facts about its engine, no code of it) find what they need on our replicas.

Its engine itself was recorded against the simulated pool; that recording is replayed in tests/simpool/test_replay.py.
Replicas made by those calls are brought up by a failover, and continued by ours.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from xobackup.engine import keys
from xobackup.engine.dr.failover import fail_over
from xobackup.engine.dr.look import look
from xobackup.engine.dr.plan import make_plan
from xobackup.engine.dr.spec import Group, Plan, Readiness
from xobackup.engine.job import VmRule
from xobackup.simpool import SimPool
from xotest.lab import MIB, only
from xotest.two_pools import TwoPools
from xotest.xo_replicas import XoReplication

JOB, SCHEDULE, VM, SR, TIME = (f"xo:backup:{key}" for key in ("job", "schedule", "vm", "sr", "datetime"))


def bases(two: TwoPools, content_key: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Managed snapshots on the SR with that content, and the disk that each is a snapshot of."""
    vdis = two.other.model.records("VDI")
    sr = two.other.sr_named(two.sr)
    return [
        (vdi, vdis[vdi["snapshot_of"]])
        for vdi in vdis.values()
        if vdi["managed"] and vdi["is_a_snapshot"] and vdi["SR"] == sr
        if vdi["other_config"].get("xo:backup:contentKey") == content_key
    ]


def retained(two: TwoPools) -> list[dict[str, Any]]:
    """What its retention counts, oldest first."""
    found = []
    for vm in two.other.model.records("VM").values():
        config = vm["other_config"]
        counts = config.get(VM) == two.lab.vm_uuid and JOB in config and SR in config and not vm["is_a_template"]
        if counts and (vm["is_a_snapshot"] or "start" in vm["blocked_operations"]) and not vm["snapshots"]:
            found.append(vm)
    return sorted(found, key=lambda vm: str(vm["other_config"][TIME]))


def test_it_would_continue_our_replica_and_keep_our_points(two: TwoPools) -> None:
    for number in range(3):
        two.lab.write(0, 0, bytes([number + 1]) * 4096)
        two.run()
    vms = two.other.model.records("VM")
    ((ref, replica),) = two.replicas().items()
    for vbd in two.lab.snapshots()[0]["VBDs"]:
        snapshot = two.lab.pool.model.get("VDI", two.lab.pool.model.get("VBD", vbd)["VDI"])
        assert snapshot["other_config"]["xo:backup:contentKey"] == snapshot["uuid"]
        ((base, active),) = bases(two, snapshot["uuid"])
        holders = [two.other.model.get("VBD", one)["VM"] for one in active["VBDs"]]
        assert holders == [ref] and vms[ref]["power_state"] == "Halted"
        store = two.other.toolstack.stores[two.other.sr_named(two.sr)]
        assert not store.node(active["uuid"]).bat.allocated(), "no block was changed after the snapshot"
        assert base["other_config"]["xo:copy_of"] == snapshot["uuid"]
    assert [vm["uuid"] for vm in retained(two)] == [point.uuid for point in reversed(two.points())]
    assert not {JOB, SCHEDULE, VM, TIME} & set(replica["other_config"]) and SR in replica["other_config"]
    assert two.points()[0].name == f"guest - nightly {two.points()[0].id}"


def its_job(two: TwoPools) -> XoReplication:
    job = two.lab.job()
    sr = two.other.sr_named(two.sr)
    return XoReplication(
        source=two.lab.pool, target=two.other, sr=sr, vm=two.lab.vm, job=job.id, schedule=job.schedule_id
    )


def brought_up(two: TwoPools) -> str:
    """The VM that a failover makes when nothing but the replicas' pool answers."""
    world = two.lab.world()
    plan = Plan(
        name="p",
        target=two.sr_target(),
        groups=(Group(name="g", vms=(VmRule(name="guest"),), ready=Readiness(tools=False)),),
    )
    with closing(world.connect(two.address)) as session:
        seen = look(world, session, plan, ())
        planning = make_plan(plan, seen, now_s=world.clock.now_s(), job_names={})
        assert not planning.all_problems, planning.all_problems
        (outcome,) = fail_over(world, session, plan, planning, seen)
    assert outcome.ok, outcome
    (ref,) = [ref for ref, vm in two.other.model.records("VM").items() if keys.FAILED_OVER in vm["other_config"]]
    return ref


def images(pool: SimPool, vm: str) -> list[str]:
    return [pool.disk_sha256(vdi) for vdi in pool.vdis_of(vm)]


def test_its_replica_is_failed_over_and_continued_by_ours(two: TwoPools) -> None:
    lab, theirs = two.lab, its_job(two)
    for number in range(2):
        lab.write(number, number * MIB, bytes([number + 1]) * 5000)
        theirs.run(f"2025120{number + 1}T00:00:00Z")
        held = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
        two.expected[two.points()[0].uuid] = held
    assert [(point.by_xo, point.usable, len(point.disks)) for point in two.points()] == [(True, True, 2)] * 2

    up = two.other.model.get("VM", brought_up(two))
    assert up["power_state"] == "Running" and up["name_label"] == "guest" and not up["blocked_operations"]
    assert "Continuous Replication" not in up["tags"]
    assert not [key for key in up["other_config"] if key.startswith("xo:backup:")]
    ref = two.other.model.by_uuid("VM", up["uuid"])
    assert images(two.other, ref) == images(lab.pool, lab.vm)

    for number in range(2):
        lab.write(0, 2 * MIB, bytes([number + 9]) * 5000)
        vm = only(two.run())
        assert (vm.deltas, vm.warnings) == (2, ()), "onto its replica, as it is"
        points = two.points()
        assert {point.replica_ref for point in points} == {theirs.replica} and len(points) == 3
        for point in points:
            expected = two.expected[point.uuid]
            found = [two.other.disk_sha256(disk.ref) for disk in point.disks]
            assert sorted(found) == sorted(expected.values()), point.id
    assert [point.by_xo for point in points] == [False, False, True], "its oldest went by our retention"


def test_its_full_replication_is_failed_over(two: TwoPools) -> None:
    its_job(two).run_full("20251201T00:00:00Z")
    assert images(two.other, brought_up(two)) == images(two.lab.pool, two.lab.vm)
