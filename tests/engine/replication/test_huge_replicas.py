"""Disks above 2040 GiB, and others in qcow2, replicated to an SR that keeps them so; refused where none does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from vhd.block import BLOCK_BYTES
from xobackup.engine.report import VmReport
from xobackup.engine.run import plan_job
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.lab import MIB, Lab, only, sparse_sha256
from xotest.two_pools import TARGET_POOL, TwoPools

TIB = 1 << 40
LAST = 4 * TIB - BLOCK_BYTES
DISKS = (
    DiskSpec(name="huge", size_bytes=4 * TIB, filled_bytes=3 * MIB),
    DiskSpec(name="small", size_bytes=6 * MIB, filled_bytes=2 * MIB),
)
SOURCE = PoolSpec(
    srs=(SrSpec(name="big", type="nfs", formats=("qcow2",)),), vms=(VmSpec(name="guest", disks=DISKS),), nbd="nbd"
)
TARGET = replace(
    TARGET_POOL,
    srs=(SrSpec(name="big", type="nfs", formats=("vhd", "qcow2"), physical_size=8 * TIB), SrSpec(name="plain")),
)


@dataclass
class Huge:
    """``expected``: by id of a restore point, what its disks hold, in their order."""

    two: TwoPools
    expected: dict[str, list[str]] = field(default_factory=dict)

    def run(self, *, expect: str = "ok") -> VmReport:
        lab = self.two.lab
        lab.write(0, 0, f"first {lab.ids}".encode())
        lab.write(0, 3 * TIB + lab.ids * 5 * MIB, f"middle {lab.ids}".encode() * 1000)
        lab.write(0, LAST + lab.ids, f"last {lab.ids}".encode())
        lab.write(1, lab.ids * 64 * 1024, f"small {lab.ids}".encode())
        images = [held(lab.pool, ref) for ref in lab.pool.vdis_of(lab.vm)]
        vm = only(lab.run(expect=expect, targets=(self.two.sr_target(),), remotes=()))
        self.expected |= dict.fromkeys(vm.points.values(), images)
        return vm

    def check(self) -> None:
        assert len(self.two.points()) == min(3, len(self.expected))
        for point in self.two.points():
            assert [held(self.two.other, disk.ref) for disk in point.disks] == self.expected[point.id], point.id


def held(pool: SimPool, vdi: str) -> str:
    with pool.read_disk(vdi) as disk:
        return sparse_sha256(disk)


@pytest.fixture
def huge(tmp_path: Path) -> Iterator[Huge]:
    with (
        SimPool.start(tmp_path / "pool", spec=SOURCE) as pool,
        SimPool.start(tmp_path / "other", spec=TARGET, seed=7) as other,
    ):
        yield Huge(TwoPools(Lab(tmp_path, pool), other, sr="big"))
        assert not other.faults.unfired()


def test_a_disk_of_4_tib_is_kept_in_qcow2_and_goes_on_by_deltas(huge: Huge) -> None:
    two, other = huge.two, huge.two.other
    for number in range(2):
        vm = huge.run()
        assert (vm.deltas, vm.warnings) == (2 if number else 0, ())
        huge.check()
        two.assert_tidy()
    (ref,) = two.replicas()
    sent = [entry.args for entry in other.journal.entries("PUT /import_raw_vdi") if entry.args[2]]
    assert {args[1] for args in sent} == {"qcow2", "vhd"} and max(args[2] for args in sent) < 64 * MIB
    other.faults.break_transfer("import", after_bytes=300_000, how="drop")
    assert "dr1" in huge.run(expect="failed").errors[0]
    huge.check()
    assert ref not in other.model.records("VM"), "nothing would prove any more what it holds"
    vm = huge.run()
    assert vm.deltas == 2 and "the replica itself is gone" in vm.warnings[0]
    huge.check()
    two.assert_tidy()

    (ref,) = two.replicas()
    disk = other.vdis_of(ref)[0]
    other.write_disk(disk, 2 * TIB, b"by somebody", force=True)
    vm = huge.run()
    assert vm.deltas == 2 and "1 blocks of a disk were changed" in vm.warnings[0] and len(two.replicas()) == 2
    huge.check()

    (new,) = set(two.replicas()) - {ref}
    other.call("VDI.disable_cbt", other.vdis_of(new)[0])
    assert huge.run().deltas == 1, "whole, because nothing proves what it holds"
    huge.check()


@pytest.mark.parametrize("mode", ["delta", "full"])
def test_an_sr_that_keeps_vhds_only_is_refused_in_the_plan(huge: Huge, mode: str) -> None:
    two, lab = huge.two, huge.two.lab
    lab.with_settings(mode=mode)
    two.sr = "plain"
    told = "target dr1: disk huge: 4096 GiB are more than a VHD holds (2040 GiB), and SR plain takes no qcow2 disks"
    (planned,) = plan_job(lab.job(targets=(two.sr_target(),), remotes=()), lab.world()).vms
    assert planned.refusal == told and "(in its pool: big)" in planned.hint
    before = {cls: set(two.other.model.records(cls)) for cls in ("VM", "VDI")}
    assert told.removeprefix("target ") in huge.run(expect="failed").errors[0]
    assert before == {cls: set(two.other.model.records(cls)) for cls in before}
    (planned,) = plan_job(lab.job(targets=(two.sr_target(),)), lab.world()).vms
    assert not planned.refusal and f"{told}: it is left out" in planned.warnings
