"""Full replication: every restore point a VM of its own, streamed as an archive from pool to pool."""

import pytest

from xobackup.engine import keys
from xobackup.engine.job import FULL
from xobackup.engine.replication.points import ReplicaPoint, find_points
from xotest.lab import MIB, only
from xotest.two_pools import TwoPools


@pytest.fixture
def whole(two: TwoPools) -> TwoPools:
    two.lab.with_settings(mode=FULL, retention=2)
    return two


def points(two: TwoPools) -> list[ReplicaPoint]:
    return find_points(two.records(), vm_uuid=two.lab.vm_uuid, whole=True)


def assert_same(two: TwoPools, point: ReplicaPoint, images: set[str]) -> None:
    assert {two.other.disk_sha256(disk.ref) for disk in point.disks} == images


def images_of(two: TwoPools) -> set[str]:
    return {two.lab.pool.disk_sha256(ref) for ref in two.lab.disks().values()}


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_archives_from_pool_to_pool(whole: TwoPools, compression: str) -> None:
    whole.lab.with_settings(compression=compression)
    kept: dict[str, set[str]] = {}
    for number in range(3):
        whole.lab.write(0, number * MIB, b"changed" * 1000)
        images = images_of(whole)
        vm = only(whole.run(remotes=whole.lab.job().remotes))
        assert set(vm.points) == {"nas", "dr1"} and len(set(vm.points.values())) == 1
        kept[vm.points["dr1"]] = images
    found = points(whole)
    assert [point.id for point in found] == sorted(kept, reverse=True)[:2]
    for point in found:
        assert_same(whole, point, kept[point.id])
    vm = whole.other.model.get("VM", found[0].ref)
    assert vm["name_label"] == f"guest - nightly - ({found[0].id})" and "Disaster Recovery" in vm["tags"]
    assert {"start", "start_on"} <= set(vm["blocked_operations"]) and keys.RUN not in vm["other_config"]
    macs = [
        whole.lab.pool.model.get("VIF", one)["MAC"] for one in whole.lab.pool.model.get("VM", whole.lab.vm)["VIFs"]
    ]
    assert [whole.other.model.get("VIF", one)["MAC"] for one in vm["VIFs"]] == macs
    managed = [vdi for vdi in whole.other.model.records("VDI").values() if vdi["managed"]]
    assert len(managed) == 4 and all(vdi["VBDs"] for vdi in managed)


def test_what_somebody_uses_is_no_restore_point_and_stays(whole: TwoPools) -> None:
    whole.run()
    (mine,) = points(whole)
    whole.other.call("VM.remove_from_blocked_operations", mine.ref, "start")
    clone = whole.other.call("VM.clone", mine.ref, "clone")
    for _ in range(3):
        whole.run()
    assert len(points(whole)) == 2
    assert {mine.ref, clone} <= set(whole.other.model.records("VM"))


def test_a_stream_that_breaks_leaves_nothing(whole: TwoPools) -> None:
    whole.run()
    before = set(whole.other.model.records("VM")), set(whole.other.model.records("VDI"))
    whole.other.faults.break_transfer("import_vm", after_bytes=2 * MIB, how="drop", skip=1)
    whole.lab.with_settings(compression="none")
    vm = only(whole.run(expect="failed"))
    assert "dr1" in vm.errors[0]
    assert (set(whole.other.model.records("VM")), set(whole.other.model.records("VDI"))) == before
    whole.run()
    assert len(points(whole)) == 2
