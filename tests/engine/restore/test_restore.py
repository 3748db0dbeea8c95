"""What was backed up comes back bit for bit, as a VM, into a VDI, a file or a pipe; or not at all, with a reason."""

import hashlib
import os
import subprocess
import threading
from pathlib import Path

import pytest

from xobackup.engine import keys
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled, IntegrityError, UsageError
from xobackup.engine.restore.files import Format, restore_to_file, restore_to_pipe
from xobackup.engine.restore.plan import RESTORED_TAG, VmRequest
from xobackup.engine.restore.vdi import restore_to_vdi
from xobackup.engine.restore.vm import Restored, plan_restore, restore_vm
from xobackup.simpool import SimPool
from xobackup.xapi.errors import XapiError
from xotest.lab import MIB, Lab
from xotest.programs import need
from xotest.xo_rules import vhd_util_check


@pytest.fixture
def backed_up(lab: Lab) -> Lab:
    """Three points with a chain behind the newest."""
    workload = lab.pool.workload(lab.vm, seed=7)
    for _ in range(3):
        workload.step()
        lab.run()
    return lab


def restore(lab: Lab, request: VmRequest | None = None, *, point: int = -1, **fields: object) -> Restored:
    world = lab.world()
    with world.connect(lab.address) as session:
        plan = plan_restore(world, session, lab.points()[point], request or VmRequest(), remote="nas")
        return restore_vm(world, session, lab.repository(), plan, **fields)


def contents(lab: Lab, restored: Restored) -> dict[str, str]:
    """Live VDI uuid then -> sha256 of the new disk."""
    refs = {str(lab.pool.model.get("VDI", ref)["uuid"]): ref for ref in lab.pool.model.records("VDI")}
    return {live: lab.pool.disk_sha256(refs[new]) for live, new in restored.disks.items()}


@pytest.mark.parametrize("directories", [False, True])
def test_every_point_comes_back_as_a_vm(lab: Lab, directories: bool) -> None:
    lab.vhd_directory = directories
    workload = lab.pool.workload(lab.vm, seed=7)
    for _ in range(3):
        workload.step()
        lab.run()
    for point in lab.points():
        restored = restore(lab, point=lab.points().index(point))
        assert contents(lab, restored) == lab.expected["nas", point.id]
        assert restored.compared > 0 and restored.unchecked == 0
    lab.assert_tidy()


def test_the_new_vm_is_like_the_old_one(backed_up: Lab, pool: SimPool) -> None:
    lab = backed_up
    restored = restore(lab)
    old, new = pool.model.get("VM", lab.vm), pool.model.get("VM", restored.vm_ref)
    assert new["name_label"] == f"guest ({lab.points()[-1].id})"
    assert new["name_description"].startswith("Restored on 2026-01-01")
    assert set(new["tags"]) == {"nightly", RESTORED_TAG}
    assert new["power_state"] == "Halted" and not new["is_a_template"] and new["blocked_operations"] == {}
    assert not any(key.startswith(("xo:backup", "xobackup")) for key in new["other_config"])
    same = ("VCPUs_max", "VCPUs_at_startup", "memory_static_max", "memory_dynamic_min", "platform", "HVM_boot_params")
    assert [new[field] for field in same] == [old[field] for field in same]
    assert macs(pool, restored.vm_ref) == macs(pool, lab.vm)
    for ref in pool.vdis_of(restored.vm_ref):
        record = pool.model.get("VDI", ref)
        assert not record["is_a_snapshot"] and not any("backup" in key for key in record["other_config"])
    assert [name(pool, ref) for ref in pool.vdis_of(restored.vm_ref)] == ["system", "data"]


def macs(pool: SimPool, vm: str) -> list[str]:
    return [pool.model.get("VIF", ref)["MAC"] for ref in pool.model.get("VM", vm)["VIFs"]]


def name(pool: SimPool, vdi: str) -> str:
    return str(pool.model.get("VDI", vdi)["name_label"])


def test_a_copy_may_have_another_name_new_macs_and_be_started(backed_up: Lab, pool: SimPool) -> None:
    restored = restore(backed_up, VmRequest(name="copy", new_macs=True, start=True))
    record = pool.model.get("VM", restored.vm_ref)
    assert record["name_label"] == "copy" and record["power_state"] == "Running" and restored.started
    assert set(macs(pool, restored.vm_ref)).isdisjoint(macs(pool, backed_up.vm))


def test_a_disk_may_be_left_out_and_a_nic_too(backed_up: Lab, pool: SimPool) -> None:
    restored = restore(backed_up, VmRequest(disk_srs={"1": None}, networks={"0": None}))
    assert [name(pool, ref) for ref in pool.vdis_of(restored.vm_ref)] == ["system"]
    assert macs(pool, restored.vm_ref) == []


def test_a_vm_that_cannot_be_started_is_restored_all_the_same(backed_up: Lab, pool: SimPool) -> None:
    pool.faults.fail_call("VM.start", "NO_HOSTS_AVAILABLE", [])
    restored = restore(backed_up, VmRequest(start=True))
    assert not restored.started and "could not be started" in restored.warnings[0]
    assert contents(backed_up, restored) == backed_up.expected["nas", backed_up.points()[-1].id]


@pytest.mark.parametrize("how", ["error", "drop", "end"])
def test_an_import_that_breaks_leaves_nothing(backed_up: Lab, pool: SimPool, how: str) -> None:
    before = {cls: set(pool.model.records(cls)) for cls in ("VM", "VDI", "VBD", "VIF")}
    pool.faults.break_transfer("import", after_bytes=1_000_000, how=how)
    with pytest.raises(XapiError):
        restore(backed_up)
    backed_up.assert_tidy()
    assert {cls: set(pool.model.records(cls)) for cls in before} == before


def test_cancelling_a_restore_leaves_nothing(backed_up: Lab, pool: SimPool) -> None:
    before = set(pool.model.records("VDI"))

    class Cancelling(CancelToken):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2:
                self.cancel("stopped by SIGTERM")
            super().check()

    backed_up.cancel = Cancelling()
    with pytest.raises(Cancelled, match="SIGTERM"):
        restore(backed_up)
        backed_up.cancel.check()
        restore(backed_up)
    backed_up.assert_tidy()
    left = {ref for ref in set(pool.model.records("VDI")) - before if "Importing" in name(pool, ref)}
    assert not left


def test_a_crashed_restore_is_cleaned_by_the_next_run(backed_up: Lab, pool: SimPool, monkeypatch) -> None:
    lab = backed_up
    before = {cls: set(pool.model.records(cls)) for cls in ("VM", "VDI")}

    class Crash(BaseException):
        pass

    def die(*_args: object, **_fields: object) -> None:
        kept.update({path: path.read_bytes() for path in (lab.directory / "state" / "active").iterdir()})
        raise Crash

    kept: dict[Path, bytes] = {}
    monkeypatch.setattr("xobackup.engine.restore.vm.send_disk", die)
    monkeypatch.setattr(
        "xobackup.engine.restore.vm.remove_restored", lambda *_: None
    )  # a dead process rolls nothing back
    with pytest.raises(Crash):
        restore(lab)
    monkeypatch.undo()
    for path, content in kept.items():
        path.write_bytes(content)
    assert set(pool.model.records("VDI")) != before["VDI"]
    lab.run()
    assert {
        ref for ref in pool.model.records("VM") if "Importing" in pool.model.get("VM", ref)["name_label"]
    } == set()
    assert {ref for ref in pool.model.records("VDI") if "Importing" in name(pool, ref)} == set()
    lab.assert_tidy()


@pytest.mark.parametrize("format", list(Format))
def test_a_disk_becomes_a_file(backed_up: Lab, tmp_path: Path, format: Format) -> None:
    qemu = need("qemu-img")
    lab = backed_up
    point = lab.points()[-1]
    for disk in point.disks:
        path = tmp_path / f"{disk.name_label}.{format}"
        written = restore_to_file(lab.world(), lab.repository(), point, disk, path, format=format)
        assert written.size_bytes == disk.virtual_size and written.unchecked == 0
        raw = tmp_path / "raw"
        source = {"raw": "raw", "vhd": "vpc", "qcow2": "qcow2"}[format]
        subprocess.run([qemu, "convert", "-f", source, "-O", "raw", path, raw], check=True)
        assert sha256(raw) == lab.expected["nas", point.id][disk.live_vdi_uuid]
        if format is Format.VHD:
            assert vhd_util_check(path.read_bytes()) == []
    assert not list(tmp_path.glob(".*xobackup*"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Receiver:
    """Reads a pipe to its end in a thread of its own."""

    def __init__(self) -> None:
        read, self.fd = os.pipe()
        self.received = b""
        self._thread = threading.Thread(target=self._read, args=(read,))
        self._thread.start()

    def _read(self, fd: int) -> None:
        with os.fdopen(fd, "rb") as file:
            self.received = file.read()

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        self._thread.join()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.received).hexdigest()


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("stored", ["memory", "files", "directories"])
def test_a_disk_goes_through_a_pipe(lab: Lab, stored: str, check: bool) -> None:
    """Local files by splice, everything else by copying: the same bytes."""
    lab.vhd_directory = stored == "directories"
    if stored != "memory":
        lab.on_disk()
    workload = lab.pool.workload(lab.vm, seed=7)
    for _ in range(2):
        workload.step()
        lab.run()
    point = lab.points()[-1]
    for disk in point.disks:
        receiver = Receiver()
        with receiver as fd:
            written = restore_to_pipe(lab.world(), lab.repository(), point, disk, fd, check=check)
        assert receiver.sha256 == lab.expected["nas", point.id][disk.live_vdi_uuid]
        assert written.compared == (written.blocks if check else 0)


def test_a_disk_goes_into_anything_that_can_be_written(backed_up: Lab, tmp_path: Path) -> None:
    point = backed_up.points()[-1]
    with (tmp_path / "out").open("wb") as file:
        restore_to_pipe(backed_up.world(), backed_up.repository(), point, point.disks[0], file.fileno())
    assert sha256(tmp_path / "out") == backed_up.expected["nas", point.id][point.disks[0].live_vdi_uuid]


def test_damage_is_an_error_for_a_pipe_too(lab: Lab) -> None:
    path = lab.on_disk()
    lab.write(0, 0, os.urandom(4 * MIB))
    lab.run()
    point = lab.points()[-1]
    disk = next(one for one in point.disks if one.name_label == "system")
    file = path / "xo-vm-backups" / lab.vm_uuid / disk.path
    content = bytearray(file.read_bytes())
    content[-MIB] ^= 1
    file.write_bytes(content)
    with Receiver() as fd, pytest.raises(IntegrityError, match="not what was written"):
        restore_to_pipe(lab.world(), lab.repository(), point, disk, fd)


def test_a_reader_that_leaves_early_is_an_error(backed_up: Lab) -> None:
    point = backed_up.points()[-1]
    read, write = os.pipe()
    os.close(read)
    try:
        with pytest.raises(BrokenPipeError):
            restore_to_pipe(backed_up.world(), backed_up.repository(), point, point.disks[0], write)
    finally:
        os.close(write)


def test_a_file_that_exists_is_kept_unless_replaced(backed_up: Lab, tmp_path: Path) -> None:
    point = backed_up.points()[-1]
    path = tmp_path / "out.raw"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        restore_to_file(backed_up.world(), backed_up.repository(), point, point.disks[0], path)
    assert path.read_bytes() == b"precious"
    restore_to_file(backed_up.world(), backed_up.repository(), point, point.disks[0], path, replace=True)
    assert sha256(path) == backed_up.expected["nas", point.id][point.disks[0].live_vdi_uuid]


def test_damage_is_found_while_restoring_and_nothing_is_left(lab: Lab, tmp_path: Path, pool: SimPool) -> None:
    path = lab.on_disk()
    lab.write(0, 0, os.urandom(4 * MIB))
    lab.run()
    point = lab.points()[-1]
    disk = next(one for one in point.disks if one.name_label == "system")
    file = path / "xo-vm-backups" / lab.vm_uuid / disk.path
    content = bytearray(file.read_bytes())
    content[-MIB] ^= 1
    file.write_bytes(content)
    before = set(pool.model.records("VDI"))
    with pytest.raises(IntegrityError, match="is not what was written"):
        restore(lab)
    assert set(pool.model.records("VDI")) == before
    with pytest.raises(IntegrityError):
        restore_to_file(lab.world(), lab.repository(), point, disk, tmp_path / "out.raw")
    assert not (tmp_path / "out.raw").exists() and not list(tmp_path.glob(".out*"))
    written = restore_to_file(lab.world(), lab.repository(), point, disk, tmp_path / "out.raw", check=False)
    assert written.compared == 0 and (tmp_path / "out.raw").stat().st_size == disk.virtual_size


@pytest.mark.parametrize("extra", [0, 5 * MIB])
def test_an_existing_vdi_is_overwritten_wholly(backed_up: Lab, pool: SimPool, extra: int) -> None:
    """Nothing of the old content shines through, neither in absent blocks nor past the disk's end."""
    lab = backed_up
    point = lab.points()[0]
    disk = point.disks[0]
    size = disk.virtual_size + extra
    vdi = new_vdi(pool, size)
    pool.write_disk(vdi, 0, b"\xee" * size, force=True)
    uuid = pool.model.get("VDI", vdi)["uuid"]
    world = lab.world()
    with world.connect(lab.address) as session:
        restore_to_vdi(world, session, lab.repository(), point, disk, vdi_uuid=uuid)
    found = pool.disk_bytes(vdi)
    assert hashlib.sha256(found[: disk.virtual_size]).hexdigest() == lab.expected["nas", point.id][disk.live_vdi_uuid]
    assert found[disk.virtual_size :] == bytes(len(found) - disk.virtual_size)


def new_vdi(pool: SimPool, size: int) -> str:
    record = {"name_label": "target", "SR": pool.default_sr, "virtual_size": size, "type": "user"}
    return str(pool.call("VDI.create", {**record, "sharable": False, "read_only": False, "other_config": {}}))


def test_a_vdi_too_small_attached_or_a_snapshot_is_refused(backed_up: Lab, pool: SimPool) -> None:
    lab = backed_up
    point = lab.points()[-1]
    disk = next(one for one in point.disks if one.name_label == "system")
    snapshot = next(ref for ref, vdi in pool.model.records("VDI").items() if vdi["is_a_snapshot"])
    targets = {
        new_vdi(pool, 2 * MIB): "expected at least",
        pool.vdis_of(lab.vm)[0]: "attached to VM guest",
        snapshot: "it is a snapshot",
    }
    world = lab.world()
    with world.connect(lab.address) as session:
        for ref, words in targets.items():
            uuid = pool.model.get("VDI", ref)["uuid"]
            with pytest.raises(UsageError, match=words):
                restore_to_vdi(world, session, lab.repository(), point, disk, vdi_uuid=uuid)


def test_restoring_while_the_chain_is_being_merged(lab: Lab) -> None:
    """Readers take no lock: a point is read again and again while runs merge beneath it."""
    lab.with_settings(retention=2)
    workload = lab.pool.workload(lab.vm, seed=3)
    for _ in range(3):
        workload.step()
        lab.run()
    point = lab.points()[-1]
    expected = lab.expected["nas", point.id]
    stop = threading.Event()
    problems: list[object] = []

    def read() -> None:
        from xobackup.engine.checked import CheckedDisk
        from xotest.lab import sha256_of

        while not stop.is_set():
            for disk in point.disks:
                source = CheckedDisk(lab.repository(), point, disk)
                try:
                    if sha256_of(source) != expected[disk.live_vdi_uuid]:
                        problems.append(disk)
                finally:
                    source.close()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        workload.step()
        lab.run()
    finally:
        stop.set()
        thread.join()
    assert not problems


def test_marks_of_an_unfinished_restore_are_gone_at_the_end(backed_up: Lab, pool: SimPool) -> None:
    restore(backed_up)
    for cls in ("VM", "VDI"):
        for record in pool.model.records(cls).values():
            if not record["is_a_snapshot"]:
                assert keys.RUN not in record["other_config"]


def test_a_virtual_tpm_comes_back_with_its_contents(lab: Lab, pool: SimPool) -> None:
    pool.call("VM.hard_shutdown", lab.vm)
    vtpm = pool.call("VTPM.create", lab.vm, False)
    pool.call("VTPM.set_contents", vtpm, "c2VhbGVk")
    lab.run()
    assert lab.points()[0].metadata["vtpms"] == ["c2VhbGVk"]
    restored = restore(lab)
    (copy,) = pool.model.get("VM", restored.vm_ref)["VTPMs"]
    assert pool.call("VTPM.get_contents", copy) == "c2VhbGVk" and restored.warnings == ()


def test_a_host_without_virtual_tpms_warns_instead_of_failing(lab: Lab, pool: SimPool) -> None:
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VTPM.create", lab.vm, False)
    pool.faults.fail_call("VTPM.get_contents", "RBAC_PERMISSION_DENIED", ["p", "no"])
    report = lab.run()
    assert "virtual TPM" in report.vms[0].warnings[0] and lab.points()[0].metadata["vtpms"] == [None]
    lab.run()
    pool.faults.fail_call("VTPM.create", "MESSAGE_METHOD_UNKNOWN", ["VTPM.create"])
    restored = restore(lab)
    assert "virtual TPM" in restored.warnings[0]
