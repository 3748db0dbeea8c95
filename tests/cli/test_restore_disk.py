"""``restore disk``: every form gives the bytes of the restore point, and nothing else is touched."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

import pytest

from vhd.file import VhdFile
from xotest.lab import sha256_of
from xotest.path_file import PathFile
from xotest.programs import need
from xotest.site import Site


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("disk", ["0", "web system", "uuid"])
def test_to_a_raw_file_by_device_name_or_uuid(shared: Site, tmp_path: Path, disk: str) -> None:
    vdi = shared.pool.vdis_of(shared.pool.vm_named("web"))[0]
    named = shared.pool.model.get("VDI", vdi)["uuid"] if disk == "uuid" else disk
    target = tmp_path / "disk.raw"
    told = shared.xobackup("restore", "disk", "web", "-r", "nas", "-d", named, "-o", target).out
    assert sha256(target) == shared.disk_sha256("web", 0)
    assert "restored web system, 8.0 MiB" in told and "compared with their digests" in told


def test_an_older_point_by_the_beginning_of_its_id(shared: Site, tmp_path: Path) -> None:
    points = shared.xobackup("backups", "show", "web", "-r", "nas", "--json").of("restore-point")
    (record,) = shared.xobackup(
        "restore", "disk", "web", points[0]["id"], "-r", "nas", "-d", "0", "-o", tmp_path / "old", "--json"
    ).of("restored")
    assert record["blocks"] == record["blocks_compared"] > 0 and record["blocks_without_digest"] == 0
    assert sha256(tmp_path / "old") != shared.disk_sha256("web", 0)


def test_the_ending_of_the_file_decides_the_format(shared: Site, tmp_path: Path) -> None:
    shared.xobackup("restore", "disk", "db", "-r", "nas", "-d", "0", "-o", tmp_path / "disk.VHD")
    file = PathFile(tmp_path / "disk.VHD")
    assert sha256_of(VhdFile.open(file)) == shared.disk_sha256("db", 0)
    file.close()


def test_to_qcow2_without_any_other_program(shared: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = need("qemu-img")
    monkeypatch.setenv("PATH", str(tmp_path))
    shared.xobackup("restore", "disk", "db", "-r", "nas", "-d", "0", "-o", tmp_path / "disk", "--format", "qcow2")
    back = [program, "convert", "-f", "qcow2", "-O", "raw", tmp_path / "disk", tmp_path / "raw"]
    subprocess.run(back, check=True, timeout=60)
    assert sha256(tmp_path / "raw") == shared.disk_sha256("db", 0)


def test_to_standard_output(shared: Site) -> None:
    process = shared.start("restore", "disk", "db", "-r", "nas", "-d", "0", "-o", "-", text=False)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert hashlib.sha256(out).hexdigest() == shared.disk_sha256("db", 0)
    assert b"restored db data" in err and b"standard output" in err


def test_into_a_vdi(shared: Site) -> None:
    old = shared.pool.vdis_of(shared.pool.vm_named("scratch"))[0]
    fields = {"SR": shared.pool.default_sr, "virtual_size": 6 << 20, "name_label": "target"}
    vdi = shared.pool.call("VDI.create", {**shared.pool.call("VDI.get_record", old), **fields})
    uuid = shared.pool.call("VDI.get_uuid", vdi)
    told = shared.xobackup("restore", "disk", "db", "-r", "nas", "-d", "0", "--vdi", uuid, "--pool", "sim").out
    assert f"to VDI {uuid}" in told
    assert shared.pool.disk_sha256(vdi) == shared.disk_sha256("db", 0)
    deadline = time.monotonic() + 20
    while shared.pool.call("VDI.get_VBDs", vdi):  # the control domain lets go of the disk after the task's end
        assert time.monotonic() < deadline, "the disk stays attached to the control domain"
        time.sleep(0.01)
    shared.pool.call("VDI.destroy", vdi)


def test_an_attached_vdi_is_refused(shared: Site) -> None:
    vdi = shared.pool.vdis_of(shared.pool.vm_named("scratch"))[0]
    uuid = shared.pool.call("VDI.get_uuid", vdi)
    before = shared.pool.disk_sha256(vdi)
    shared.xobackup("restore", "disk", "db", "-r", "nas", "-d", "0", "--vdi", uuid, "--pool", "sim", code=2)
    assert shared.pool.disk_sha256(vdi) == before


def test_an_existing_file_is_kept_unless_forced(shared: Site, tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    target.write_bytes(b"precious")
    command = ("restore", "disk", "db", "-r", "nas", "-d", "0", "-o", target)
    error = shared.xobackup(*command, code=2).err
    assert f"{target}: it exists already" in error and "--force" in error and target.read_bytes() == b"precious"
    shared.xobackup(*command, "--force")
    assert sha256(target) == shared.disk_sha256("db", 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected exactly one of --output and --vdi"),
        (["-o", "x", "--vdi", "y", "-p", "sim"], "expected exactly one of --output and --vdi"),
        (["--vdi", "y"], "--vdi and --pool go together"),
        (["-o", "-", "--json"], "cannot carry both"),
        (["-o", "-", "--format", "vhd"], "takes a raw disk, not vhd"),
        (["-o", "x.raw", "--format", "vmdk"], "--format: expected raw, vhd, qcow2, found 'vmdk'"),
        (["-o", "/nonexistent/x.raw"], "its directory does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    shared: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in shared.xobackup("restore", "disk", "db", "-r", "nas", "-d", "0", *arguments, code=2).err
    assert not list(tmp_path.iterdir())


def test_an_unknown_disk_is_told_with_those_that_are_there(shared: Site, tmp_path: Path) -> None:
    error = shared.xobackup("restore", "disk", "web", "-r", "nas", "-d", "7", "-o", tmp_path / "x", code=2).err
    assert "disk '7': no such disk" in error and "0 (web system)" in error and "1 (web data)" in error


def test_damage_is_found_while_restoring_and_leaves_no_file(copied: Site, tmp_path: Path) -> None:
    copied.damage("db")
    target = tmp_path / "disk.raw"
    result = copied.xobackup("restore", "disk", "db", "-r", "nas", "-d", "0", "-o", target, code=5)
    assert "error: " in result.err and "digest" in result.err
    assert not target.exists()
    copied.xobackup("restore", "disk", "db", "-r", "nas", "-d", "0", "-o", target, "--no-check")


def test_a_reader_that_goes_away_ends_it(shared: Site) -> None:
    process = shared.start("restore", "disk", "web", "-r", "nas", "-d", "0", "-o", "-", text=False)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"error: whoever read standard output went away" in err
    assert b"Traceback" not in err and b"hint" not in err
