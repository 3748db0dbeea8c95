"""What happens to replicas, to their pool and on the way: every time the last restore point stays good, the reason is
told, and the next run goes on by itself."""

from dataclasses import replace

import pytest

from xobackup.engine import events, keys
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.replication.marks import REPLICA_TEXT
from xobackup.engine.run import plan_job
from xotest.lab import MIB, only
from xotest.two_pools import TwoPools


def ready(two: TwoPools) -> str:
    """Two restore points; the replica."""
    for number in range(2):
        two.lab.write(0, 0, bytes([number + 1]) * 4096)
        two.run()
    return replica(two)


def replica(two: TwoPools) -> str:
    (ref,) = two.replicas()
    return ref


def goes_on(two: TwoPools, *, deltas: int = 2) -> None:
    """The next run is a delta, and everything is as it should be."""
    two.lab.write(0, MIB, b"next" * 1024)
    vm = only(two.run())
    assert vm.deltas == deltas, vm
    two.check()
    two.assert_tidy()


def test_a_replica_cannot_be_started_by_accident(two: TwoPools) -> None:
    ref = ready(two)
    vm = two.replicas()[ref]
    assert vm["name_label"] == "guest [nightly replica]" and vm["power_state"] == "Halted"
    assert vm["blocked_operations"]["start"] == vm["blocked_operations"]["start_on"] == REPLICA_TEXT
    assert vm["ha_restart_priority"] == "" and "Continuous Replication" in vm["tags"]
    with pytest.raises(Exception, match="OPERATION_BLOCKED"):
        two.other.call("VM.start", ref, False, False)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_replica_that_was_started_is_left_alone(two: TwoPools, stopped: bool) -> None:
    ref = ready(two)
    for operation in ("start", "start_on"):
        two.other.call("VM.remove_from_blocked_operations", ref, operation)
    two.other.call("VM.start", ref, False, False)
    two.other.write_disk(two.other.vdis_of(ref)[0], 0, b"his" * 1000)
    if stopped:
        two.other.call("VM.hard_shutdown", ref)
        two.other.call("VM.add_to_blocked_operations", ref, "start", REPLICA_TEXT)
    his = [two.other.disk_sha256(vdi) for vdi in two.other.vdis_of(ref)]
    (planned,) = plan_job(two.lab.job(targets=(two.sr_target(),), remotes=()), two.lab.world()).vms
    assert stopped or any("a new replica will be made" in told for told in planned.warnings)
    two.lab.write(1, 0, b"more")
    vm = only(two.run())
    assert vm.deltas == 2 and "a new replica is made" in vm.warnings[0]
    assert len(two.replicas()) == 2
    two.check()
    two.lab.write(1, 4096, b"and more")
    assert only(two.run()).warnings == ()
    assert [two.other.disk_sha256(vdi) for vdi in two.other.vdis_of(ref)] == his
    two.check()


def test_a_changed_disk_is_found_out_without_any_mark(two: TwoPools) -> None:
    ref = ready(two)
    vdi = two.other.vdis_of(ref)[0]
    store = two.other.toolstack.store_of(vdi)
    store.write(two.other.model.get("VDI", vdi)["uuid"], 3 * MIB, b"written behind our back")
    two.lab.write(1, 0, b"more")
    vm = only(two.run())
    assert vm.deltas == 2 and "1 blocks of a disk were changed" in vm.warnings[0]
    two.check()


def test_a_clone_is_never_taken_for_a_replica(two: TwoPools) -> None:
    ref = ready(two)
    point = two.points()[0]
    clone = two.other.call("VM.clone", point.ref, "drill")
    two.other.call("VM.set_is_a_template", clone, False)
    two.other.call("VM.start", clone, False, False)
    two.other.write_disk(two.other.vdis_of(clone)[0], 0, b"drill" * 1000)
    two.other.call("VM.snapshot", clone, "of the drill")
    two.other.call("VM.clone", ref, "clone of the replica")
    known = {one.uuid for one in two.points()}
    two.lab.write(0, 0, b"x" * 100)
    vm = only(two.run())
    assert vm.deltas == 2 and vm.warnings == ()
    assert len({one.uuid for one in two.points()} - known) == 1
    assert two.points()[0].replica_ref == ref
    two.check()


def test_a_replica_that_is_gone_is_made_again_from_its_snapshots(two: TwoPools) -> None:
    ref = ready(two)
    disks = two.other.vdis_of(ref)
    two.other.call("VM.destroy", ref)
    for vdi in disks:
        two.other.call("VDI.destroy", vdi)
    assert len(two.points()) == 2
    vm = only(two.run())
    assert vm.deltas == 2 and "the replica itself is gone" in vm.warnings[0]
    two.check()
    goes_on(two)


def test_everything_gone_begins_again(two: TwoPools) -> None:
    ready(two)
    disks = [*two.other.vdis_of(replica(two)), *(disk.ref for point in two.points() for disk in point.disks)]
    for vm in [*(point.ref for point in two.points()), replica(two)]:
        two.other.call("VM.destroy", vm)
    for vdi in disks:
        two.other.call("VDI.destroy", vdi)
    vm = only(two.run())
    assert vm.fulls == 2
    two.check()
    goes_on(two)


def test_a_lost_base_makes_that_disk_full_and_says_why(two: TwoPools) -> None:
    ready(two)
    snapshot = two.lab.snapshots()[0]
    vdi = two.lab.pool.model.get("VBD", snapshot["VBDs"][0])["VDI"]
    two.lab.pool.call("VDI.destroy", vdi)
    vm = only(two.run())
    assert (vm.fulls, vm.deltas) == (1, 1)
    two.check()
    two.assert_tidy()
    goes_on(two)


def test_a_disk_that_grew(two: TwoPools) -> None:
    ready(two)
    two.lab.pool.call("VM.hard_shutdown", two.lab.vm)
    two.lab.pool.call("VDI.resize", two.lab.pool.vdis_of(two.lab.vm)[0], 12 * MIB)
    two.lab.pool.call("VM.start", two.lab.vm, False, False)
    two.lab.write(0, 11 * MIB, b"at the new end")
    assert only(two.run()).deltas == 2
    two.check()
    goes_on(two)


def test_a_disk_that_was_removed_and_one_that_came(two: TwoPools) -> None:
    ready(two)
    pool, vm = two.lab.pool, two.lab.vm
    pool.call("VM.hard_shutdown", vm)
    gone = pool.vdis_of(vm)[1]
    pool.call(
        "VBD.destroy",
        next(vbd for vbd in pool.model.get("VM", vm)["VBDs"] if pool.model.get("VBD", vbd)["VDI"] == gone),
    )
    assert only(two.run()).deltas == 1
    two.check()
    two.assert_tidy()
    record = pool.model.get("VDI", pool.vdis_of(vm)[0])
    extra = pool.call("VDI.create", {
        "name_label": "extra", "name_description": "", "SR": record["SR"], "virtual_size": 4 * MIB, "type": "user",
        "sharable": False, "read_only": False, "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": [],
    })  # fmt: skip
    pool.call("VBD.create", {
        "VM": vm, "VDI": extra, "userdevice": "2", "bootable": False, "mode": "RW", "type": "Disk",
        "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
    })  # fmt: skip
    found = only(two.run())
    assert (found.fulls, found.deltas) == (1, 1)
    two.check()
    two.assert_tidy()


def test_a_full_sr_leaves_the_last_point(two: TwoPools) -> None:
    ready(two)
    sr = two.other.sr_named("dr ssd")
    two.lab.write(0, 0, b"n" * (5 * MIB))
    two.other.fill_sr(sr, free_bytes=1 * MIB)
    vm = only(two.run(expect="failed"))
    assert "SR dr ssd is full" in vm.errors[0] and "free space on it" in vm.hint + str(
        two.lab.journal.of(events.Failed)
    )
    two.check()
    assert len(two.points()) == 2
    assert not any(
        vdi["other_config"].get(keys.RUN)
        for vdi in two.other.model.records("VDI").values()
        if not vdi["is_a_snapshot"]
    )
    two.other.toolstack.stores[sr].foreign_bytes = 0
    goes_on(two)


def test_a_pool_that_is_down_costs_the_remote_nothing(two: TwoPools) -> None:
    lab = two.lab
    both = {"remotes": lab.job().remotes}
    two.run(**both)
    away = two.sr_target(pool=replace(two.sr_target().pool, address=replace(two.address, url="https://127.0.0.1:9")))
    lab.write(0, 0, b"one")
    report = lab.run(expect="some-failed", targets=(away,), **both)
    assert set(only(report).points) == {"nas"} and "dr1" in report.problems[0]
    lab.write(0, 4096, b"two")
    vm = only(two.run(**both))
    assert vm.deltas == 2 and set(vm.points) == {"nas", "dr1"}
    two.check()
    lab.check()


def test_an_import_that_breaks_is_taken_back(two: TwoPools) -> None:
    ref = ready(two)
    two.lab.write(0, 0, b"z" * (4 * MIB))
    two.other.faults.break_transfer("import", after_bytes=3 * MIB, how="drop")
    vm = only(two.run(expect="failed"))
    assert "dr1" in vm.errors[0]
    two.check()
    two.assert_tidy()
    assert replica(two) == ref
    goes_on(two)


def test_remote_and_replica_are_fed_from_one_reading(two: TwoPools) -> None:
    both = {"remotes": two.lab.job().remotes}
    for number in range(3):
        two.lab.write(0, number * MIB, b"changed" * 1000)
        vm = only(two.run(**both))
        assert set(vm.points) == {"nas", "dr1"} and len(set(vm.points.values())) == 1
        assert len(vm.ways) == 2 and all(set(way.remotes) == {"nas", "dr1"} for way in vm.ways)
        two.check()
        two.lab.check()
    two.assert_tidy()
    assert keys.POINT not in two.lab.snapshots()[0]["other_config"]


def test_replicas_in_the_same_pool_are_not_replicated_in_turn(two: TwoPools) -> None:
    """They have their VM's tags; a rule by tag must not choose them."""
    two.other, two.sr = two.lab.pool, "Local storage"
    two.lab.selector = Selector(include=(VmRule(tag="nightly"),))
    for number in range(3):
        two.lab.write(0, 0, bytes([number + 1]) * 4096)
        assert [vm.name for vm in two.run(gc=False).vms if vm.points] == ["guest"]
        two.check()
    assert len(two.replicas()) == 1 and "nightly" in two.replicas()[replica(two)]["tags"]
