"""A full backup comes back byte for byte: as a VM, a file, a pipe, a VDI, or as the archive it is; or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from remotes.memory import MemoryRemote
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled, IntegrityError, UsageError
from xobackup.engine.full.described import with_disks
from xobackup.engine.full.extract import extract_to_file, extract_to_pipe
from xobackup.engine.restore.files import Format, restore_to_file, restore_to_pipe
from xobackup.engine.restore.plan import RESTORED_TAG, VmRequest
from xobackup.engine.restore.vdi import restore_to_vdi
from xobackup.engine.restore.vm import Restored, plan_restore, restore_vm
from xobackup.repository.metadata import RestorePoint
from xobackup.simpool import SimPool
from xobackup.xapi.errors import XapiError
from xotest.lab import MIB, Lab
from xotest.programs import need
from xotest.xo_rules import vhd_util_check


@pytest.fixture(params=["none", "gzip", "zstd"])
def packed(lab: Lab, request: pytest.FixtureRequest) -> Lab:
    """One full backup, compressed or not."""
    lab.with_settings(compression=request.param)
    lab.write(1, 5 * MIB + 777, b"in the middle of a piece")
    lab.run()
    return lab


@pytest.fixture
def backed_up(lab: Lab) -> Lab:
    lab.with_settings(compression="none")
    lab.run()
    return lab


def the_point(lab: Lab) -> RestorePoint:
    return with_disks(lab.repository(), lab.points()[-1])


def restore(lab: Lab, request: VmRequest | None = None, **fields: object) -> Restored:
    world = lab.world()
    with world.connect(lab.address) as session:
        plan = plan_restore(world, session, the_point(lab), request or VmRequest(), remote="nas")
        return restore_vm(world, session, lab.repository(), plan, **fields)


def image(lab: Lab) -> tuple[MemoryRemote, str]:
    remote = lab.remotes["nas"]
    assert isinstance(remote, MemoryRemote)
    return remote, f"xo-vm-backups/{lab.vm_uuid}/{lab.points()[-1].xva}"


def damage(lab: Lab, at: int, *, length: int | None = None) -> None:
    """Flip a bit of the image, or cut it off."""
    remote, path = image(lab)
    raw = bytearray(remote.get(path))
    if length is not None:
        raw = raw[:length]
    else:
        raw[at] ^= 1
    remote.put(path, bytes(raw))


def of_disks(lab: Lab, vm: str) -> list[str]:
    return [lab.pool.disk_sha256(ref) for ref in lab.pool.vdis_of(vm)]


def everything(lab: Lab) -> set[str]:
    model = lab.pool.model
    return {*model.records("VM"), *model.records("VDI"), *model.records("VIF")}


def test_a_vm_comes_back(packed: Lab, pool: SimPool) -> None:
    old = pool.model.get("VM", packed.vm)
    restored = restore(packed)
    assert of_disks(packed, restored.vm_ref) == of_disks(packed, packed.vm)
    assert restored.archive and restored.compared == 1
    assert sorted(restored.disks) == sorted(disk.live_vdi_uuid for disk in the_point(packed).disks)
    new = pool.model.get("VM", restored.vm_ref)
    assert new["name_label"] == f"guest ({packed.points()[-1].id})"
    assert new["name_description"].startswith("Restored on 2026-01-01")
    assert set(new["tags"]) == {"nightly", RESTORED_TAG}
    assert new["power_state"] == "Halted" and not new["is_a_template"] and not new["is_a_snapshot"]
    assert new["blocked_operations"] == {} and new["current_operations"] == {}
    for record in [new, *(pool.model.get("VDI", ref) for ref in pool.vdis_of(restored.vm_ref))]:
        assert not any(key.startswith(("xo:backup", "xobackup")) for key in record["other_config"])
        assert not record["is_a_snapshot"]
    assert macs(pool, restored.vm_ref) == macs(pool, packed.vm)
    assert new["VCPUs_max"] == old["VCPUs_max"] and new["platform"] == old["platform"]
    packed.assert_tidy()


def macs(pool: SimPool, vm: str) -> list[str]:
    return [pool.model.get("VIF", ref)["MAC"] for ref in pool.model.get("VM", vm)["VIFs"]]


def test_what_the_operator_asks_for(backed_up: Lab, pool: SimPool) -> None:
    request = VmRequest(name="copy", new_macs=True, start=True, networks={"0": None})
    restored = restore(backed_up, request)
    new = pool.model.get("VM", restored.vm_ref)
    assert (new["name_label"], new["power_state"], new["VIFs"]) == ("copy", "Running", [])
    assert new["other_config"].get("mac_seed") != pool.model.get("VM", backed_up.vm)["other_config"]["mac_seed"]
    with pytest.raises(UsageError, match="imported whole"):
        restore(backed_up, VmRequest(disk_srs={"0": None}))
    with pytest.raises(UsageError, match="no such NIC"):
        restore(backed_up, VmRequest(networks={"7": "x"}))


def test_new_macs(backed_up: Lab, pool: SimPool) -> None:
    restored = restore(backed_up, VmRequest(new_macs=True))
    assert not set(macs(pool, restored.vm_ref)) & set(macs(pool, backed_up.vm))


def test_an_image_that_is_not_what_was_written_never_becomes_a_vm(packed: Lab) -> None:
    before = everything(packed)
    damage(packed, image_size(packed) - 700)
    with pytest.raises(IntegrityError, match="checksum differs"):
        restore(packed)
    packed.assert_tidy()
    assert everything(packed) == before


def image_size(lab: Lab) -> int:
    remote, path = image(lab)
    return remote.stat(path).size_bytes


def test_without_a_checksum_the_pools_own_checks_decide(backed_up: Lab) -> None:
    remote, path = image(backed_up)
    remote.delete(f"{path}.checksum")
    restored = restore(backed_up)
    assert (restored.compared, restored.unchecked) == (0, 1)
    before = everything(backed_up)
    damage(backed_up, image_size(backed_up) // 2)
    with pytest.raises(XapiError, match="IMPORT_ERROR_SOME_CHECKSUMS_FAILED"):
        restore(backed_up)
    assert everything(backed_up) == before
    backed_up.assert_tidy()


@pytest.mark.parametrize("how", ["drop", "error"])
def test_an_import_that_breaks_leaves_nothing(backed_up: Lab, pool: SimPool, how: str) -> None:
    before = everything(backed_up)
    pool.faults.break_transfer("import_vm", after_bytes=2 * MIB, how=how, skip=1)
    with pytest.raises(XapiError):
        restore(backed_up)
    assert everything(backed_up) == before
    backed_up.assert_tidy()


def test_every_disk_becomes_a_file(packed: Lab, tmp_path: Path) -> None:
    point = the_point(packed)
    for disk, expected in zip(point.disks, of_disks(packed, packed.vm), strict=True):
        target = tmp_path / f"{disk.userdevice}.raw"
        written = restore_to_file(packed.world(), packed.repository(), point, disk, target)
        assert written.compared == written.blocks > 0 and not written.unchecked
        assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
        assert target.stat().st_blocks * 512 < disk.virtual_size, "zeros are holes"


@pytest.mark.parametrize("format", [Format.VHD, Format.QCOW2])
def test_other_formats(backed_up: Lab, tmp_path: Path, format: Format) -> None:
    qemu = need("qemu-img")
    point, target, raw = the_point(backed_up), tmp_path / "disk", tmp_path / "raw"
    restore_to_file(backed_up.world(), backed_up.repository(), point, point.disks[0], target, format=format)
    kind = "vpc" if format is Format.VHD else "qcow2"
    subprocess.run([qemu, "convert", "-f", kind, "-O", "raw", target, raw], check=True)
    assert hashlib.sha256(raw.read_bytes()).hexdigest() == of_disks(backed_up, backed_up.vm)[0]
    if format is Format.VHD:
        assert vhd_util_check(target.read_bytes()) == []


def test_a_disk_goes_through_a_pipe(packed: Lab) -> None:
    point, digests = the_point(packed), []

    def drain(fd: int) -> None:
        with os.fdopen(fd, "rb") as pipe:
            digests.append(hashlib.sha256(pipe.read()).hexdigest())

    reader, writer = os.pipe()
    thread = threading.Thread(target=drain, args=(reader,))
    thread.start()
    try:
        restore_to_pipe(packed.world(), packed.repository(), point, point.disks[1], writer)
    finally:
        os.close(writer)
        thread.join()
    assert digests == [of_disks(packed, packed.vm)[1]]


def test_a_disk_overwrites_a_vdi(packed: Lab, pool: SimPool) -> None:
    point = the_point(packed)
    target = restore(packed).vm_ref
    ref = pool.vdis_of(target)[0]
    pool.write_disk(ref, 4 * MIB, b"rubbish" * 1000, force=True)
    world = packed.world()
    with world.connect(packed.address) as session:
        uuid = pool.model.get("VDI", ref)["uuid"]
        restore_to_vdi(world, session, packed.repository(), point, point.disks[0], vdi_uuid=uuid)
    assert pool.disk_sha256(ref) == of_disks(packed, packed.vm)[0]


def test_a_damaged_image_gives_no_file(packed: Lab, tmp_path: Path) -> None:
    point = the_point(packed)
    damage(packed, image_size(packed) - 700)
    for disk in point.disks:
        with pytest.raises(IntegrityError):
            restore_to_file(packed.world(), packed.repository(), point, disk, tmp_path / "disk")
    with pytest.raises(IntegrityError):
        extract_to_file(packed.world(), packed.repository(), point, tmp_path / "xva")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_what_lies_before_the_damage_can_be_had_without_checking(backed_up: Lab, tmp_path: Path) -> None:
    point = the_point(backed_up)
    damage(backed_up, 0, length=image_size(backed_up) - 600)
    with pytest.raises(IntegrityError, match="damaged"):
        restore_to_file(backed_up.world(), backed_up.repository(), point, point.disks[0], tmp_path / "no")
    target = tmp_path / "yes"
    restore_to_file(backed_up.world(), backed_up.repository(), point, point.disks[0], target, check=False)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == of_disks(backed_up, backed_up.vm)[0]


def test_the_archive_as_it_is(packed: Lab, tmp_path: Path) -> None:
    remote, path = image(packed)
    extracted = extract_to_file(packed.world(), packed.repository(), packed.points()[-1], tmp_path / "vm.xva")
    assert (tmp_path / "vm.xva").read_bytes() == remote.get(path) and extracted.checked
    with (tmp_path / "pipe.xva").open("wb") as file:
        extract_to_pipe(packed.world(), packed.repository(), packed.points()[-1], file.fileno())
    assert (tmp_path / "pipe.xva").read_bytes() == remote.get(path)


def test_a_cancelled_restore_leaves_nothing(backed_up: Lab, pool: SimPool) -> None:
    before = everything(backed_up)
    pool.faults.slow("http", bytes_per_s=2_000_000)
    world = replace(backed_up.world(), cancel=CancelToken())
    with world.connect(backed_up.address) as session:
        plan = plan_restore(world, session, the_point(backed_up), VmRequest(), remote="nas")
        timer = threading.Timer(1.0, world.cancel.cancel, ["enough"])
        timer.start()
        with pytest.raises(Cancelled, match="enough"):
            restore_vm(world, session, backed_up.repository(), plan)
    pool.faults.slow("http")
    backed_up.assert_tidy()
    assert everything(backed_up) == before
