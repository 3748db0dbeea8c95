"""VMs as archives: what is in them, what comes back, and everything that can be wrong with one."""

from __future__ import annotations

import gzip
import io
import tarfile
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import xxhash
import zstandard

from xobackup.simpool import DiskSpec, Options, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20


@pytest.fixture
def spec(spec: PoolSpec) -> PoolSpec:
    disk = DiskSpec(name="small", size_bytes=10 * MIB, filled_bytes=MIB)
    target = SrSpec(name="target")
    vms = (VmSpec(name="archived", disks=(disk,), power_state="Halted", tags=("kept",)), *spec.vms)
    return replace(spec, vms=vms, srs=(*spec.srs, target))


@pytest.fixture
def vm(pool: SimPool) -> str:
    found = pool.vm_named("archived")
    pool.write_disk(pool.vdis_of(found)[0], 7 * MIB + 100, b"in the middle", force=True)
    return found


def export(client: SimClient, vm: str, **query: str) -> bytes:
    task = client.call("task.create", "export", "")
    answer = client.get("/export", ref=vm, task_id=task, **query)
    assert answer.status == 200 and client.wait(task)["status"] == "success"
    return bytes(answer.body)


def put(client: SimClient, body: bytes, path: str = "/import", **query: str) -> dict[str, Any]:
    task = client.call("task.create", "import", "")
    answer = client.put(path, body, task_id=task, **query)
    assert answer.status == 200
    return client.wait(task)


def made_by(record: dict[str, Any]) -> list[str]:
    assert record["status"] == "success", record["error_info"]
    text = f"<params><param>{record['result']}</param></params>"
    return list(xmlrpc.client.loads(f"<methodResponse>{text}</methodResponse>")[0][0])


def members(body: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


class TestExport:
    def test_the_description_comes_first_and_numbers_its_objects(
        self, pool: SimPool, client: SimClient, vm: str
    ) -> None:
        found = members(export(client, vm))
        assert next(iter(found)) == "ova.xml"
        body = b"<methodResponse><params><param>" + found["ova.xml"] + b"</param></params></methodResponse>"
        whole = xmlrpc.client.loads(body)[0][0]
        assert set(whole["version"]) == {
            *("hostname", "date", "product_version", "product_brand"),
            *("build_number", "xapi_major", "xapi_minor", "export_vsn"),
        }
        by_id = {one["id"]: one for one in whole["objects"]}
        assert {one["class"] for one in whole["objects"]} == {"VM", "VBD", "VDI", "SR", "VIF", "network"}
        machine = next(one["snapshot"] for one in whole["objects"] if one["class"] == "VM")
        assert machine["name_label"] == "archived" and machine["tags"] == ["kept"]
        (vbd,) = machine["VBDs"]
        assert by_id[by_id[vbd]["snapshot"]["VDI"]]["snapshot"]["virtual_size"] == str(10 * MIB)
        assert machine["metrics"] == "OpaqueRef:NULL"

    def test_pieces_first_last_and_those_that_hold_something(self, pool: SimPool, client: SimClient, vm: str) -> None:
        found = members(export(client, vm))
        data = [name for name in found if "/" in name]
        number = data[0].partition("/")[0]
        wanted = [f"{number}/{index:08d}{suffix}" for index in (0, 7, 9) for suffix in ("", ".xxhash")]
        assert data == wanted
        disk = pool.disk_bytes(pool.vdis_of(vm)[0])
        for index in (0, 7, 9):
            piece = found[f"{number}/{index:08d}"]
            assert piece == disk[index * MIB : (index + 1) * MIB]
            assert found[f"{number}/{index:08d}.xxhash"].decode() == xxhash.xxh64_hexdigest(piece).upper()

    @pytest.mark.parametrize("kind", ["gzip", "true", "zstd"])
    def test_compression(self, client: SimClient, vm: str, kind: str) -> None:
        body = export(client, vm, use_compression=kind)
        unpack = zstandard.ZstdDecompressor().decompressobj().decompress if kind == "zstd" else gzip.decompress
        assert members(unpack(body)).keys() == members(export(client, vm)).keys()

    def test_a_running_vm_is_refused_before_the_headers(self, pool: SimPool, client: SimClient) -> None:
        guest = pool.vm_named("guest")
        task = client.call("task.create", "export", "")
        assert client.get("/export", ref=guest, task_id=task).status == 500
        assert client.wait(task)["error_info"] == ["VM_BAD_POWER_STATE", guest, "halted, suspended", "running"]
        assert client.get("/export", ref="OpaqueRef:none").status == 500
        assert client.get("/export").status == 500

    def test_a_snapshot_of_a_running_vm_can_be_exported(self, pool: SimPool, client: SimClient) -> None:
        snapshot = client.call("VM.snapshot", pool.vm_named("guest"), "s")
        numbers = {name.partition("/")[0] for name in members(export(client, snapshot)) if "/" in name}
        assert len(numbers) == 2

    def test_the_vm_is_locked_meanwhile_and_free_afterwards(self, pool: SimPool, client: SimClient, vm: str) -> None:
        export(client, vm)
        record = client.call("VM.get_record", vm)
        assert record["current_operations"] == {} and "start" in record["allowed_operations"]

    def test_an_error_on_the_way_lands_in_the_body(self, pool: SimPool, client: SimClient, vm: str) -> None:
        pool.faults.break_transfer("export_vm", after_bytes=MIB, how="error")
        task = client.call("task.create", "export", "")
        answer = client.get("/export", ref=vm, task_id=task)
        assert answer.status == 200 and b"HTTP/1.1 500 Internal Error" in answer.body
        assert client.wait(task)["error_info"] == ["VDI_IO_ERROR", "Device I/O errors"]
        assert pool.faults.unfired() == []


class TestOldExports:
    @pytest.fixture
    def pool(self, tmp_path: Path, spec: PoolSpec) -> Iterator[SimPool]:
        options = Options(xva_checksum="sha1", xva_alive_every=4)
        with SimPool.start(tmp_path / "pool", spec=spec, options=options) as started:
            yield started

    def test_old_checksums_and_signs_of_life_are_written_and_read(
        self, pool: SimPool, client: SimClient, vm: str
    ) -> None:
        body = export(client, vm)
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as archive:
            sizes = [(one.name, one.size) for one in archive]
        assert any(name.endswith("/00000004") and size == 0 for name, size in sizes)
        assert any(name.endswith(".checksum") and size == 40 for name, size in sizes)
        (made,) = made_by(put(client, body))
        assert pool.disk_sha256(pool.vdis_of(made)[0]) == pool.disk_sha256(pool.vdis_of(vm)[0])


class TestImport:
    @pytest.mark.parametrize("kind", ["", "gzip", "zstd"])
    def test_a_vm_comes_back_with_every_byte(self, pool: SimPool, client: SimClient, vm: str, kind: str) -> None:
        vtpm = client.call("VTPM.create", vm, False)
        client.call("VTPM.set_contents", vtpm, "c2VjcmV0")
        record = put(client, export(client, vm, use_compression=kind), sr_id=pool.sr_named("target"))
        (made,) = made_by(record)
        assert record["other_config"]["object_creation"] == "complete"
        old, new = client.call("VM.get_record", vm), client.call("VM.get_record", made)
        for name in ("name_label", "tags", "memory_static_max", "platform", "VCPUs_max"):
            assert new[name] == old[name]
        assert new["uuid"] != old["uuid"] and new["power_state"] == "Halted"
        (disk,) = pool.vdis_of(made)
        assert client.call("VDI.get_SR", disk) == pool.sr_named("target")
        assert pool.disk_sha256(disk) == pool.disk_sha256(pool.vdis_of(vm)[0])
        assert client.call("VTPM.get_contents", new["VTPMs"][0]) == "c2VjcmV0"
        macs = [client.call("VIF.get_MAC", record["VIFs"][0]) for record in (old, new)]
        assert macs[0] != macs[1]
        client.call("VM.start", made, False, False)

    def test_a_restore_keeps_identity_and_refuses_a_double(self, pool: SimPool, client: SimClient, vm: str) -> None:
        body = export(client, vm)
        assert put(client, body, restore="true")["error_info"] == ["DUPLICATE_VM", vm]
        before = client.call("VM.get_record", vm)
        mac = client.call("VIF.get_MAC", before["VIFs"][0])
        client.call("VM.destroy", vm)
        (made,) = made_by(put(client, body, restore="true"))
        after = client.call("VM.get_record", made)
        assert after["uuid"] == before["uuid"]
        assert client.call("VIF.get_MAC", after["VIFs"][0]) == mac

    @pytest.mark.parametrize("damage", ["cut", "flipped", "order", "garbage", "no sum", "foreign"])
    def test_a_broken_archive_leaves_nothing_behind(
        self, pool: SimPool, client: SimClient, vm: str, damage: str
    ) -> None:
        body = export(client, vm)
        at = body.rindex(b"in the middle")
        number = next(name for name in members(body) if "/" in name).partition("/")[0]
        bad, expected = {
            "cut": (body[: len(body) // 2], "IMPORT_ERROR_PREMATURE_EOF"),
            "flipped": (body[:at] + b"X" + body[at + 1 :], "IMPORT_ERROR_SOME_CHECKSUMS_FAILED"),
            "order": (repack(body, drop="ova.xml"), "IMPORT_ERROR_UNEXPECTED_FILE"),
            "garbage": (b"no archive" * 200, "IMPORT_ERROR_PREMATURE_EOF"),
            "no sum": (repack(body, drop=f"{number}/00000007.xxhash"), "IMPORT_ERROR_UNEXPECTED_FILE"),
            "foreign": (body.replace(f"{number}/00000007".encode(), b"Ref:99/0000007"), "IMPORT_ERROR_PREMATURE_EOF"),
        }[damage]
        before = {cls: set(pool.model.refs(cls)) for cls in ("VM", "VDI", "VIF", "VTPM")}
        record = put(client, bad)
        assert record["status"] == "failure" and record["error_info"][0] == expected
        assert {cls: set(pool.model.refs(cls)) for cls in before} == before

    def test_refusals_before_the_body(self, pool: SimPool, client: SimClient, vm: str) -> None:
        task = client.call("task.create", "import", "")
        answer = client.put("/import", b"", headers={"Transfer-Encoding": "chunked"}, task_id=task)
        assert answer.status == 403
        assert client.wait(task)["error_info"] == ["IMPORT_ERROR_CANNOT_HANDLE_CHUNKED"]
        task = client.call("task.create", "import", "")
        answer = client.put("/import", b"x", sr_id=pool.sr_named("ISO library"), task_id=task)
        assert answer.status == 400 and client.wait(task)["error_info"] == ["SR_OPERATION_NOT_SUPPORTED"]

    def test_a_suspended_snapshot_keeps_its_memory(self, pool: SimPool, client: SimClient) -> None:
        guest = pool.vm_named("guest")
        pool.model.update("VM", guest, memory_static_max=4 * MIB)
        made = client.call("VM.checkpoint", guest, "s")
        memory = pool.disk_sha256(client.call("VM.get_suspend_VDI", made))
        (back,) = made_by(put(client, export(client, made, use_compression="zstd")))
        record = client.call("VM.get_record", back)
        assert record["power_state"] == "Suspended" and pool.disk_sha256(record["suspend_VDI"]) == memory


def repack(body: bytes, *, drop: str) -> bytes:
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(body), mode="r:") as old,
        tarfile.open(fileobj=made, mode="w:", format=tarfile.USTAR_FORMAT) as new,
    ):
        for one in old:
            if one.name != drop:
                new.addfile(one, old.extractfile(one))
    return made.getvalue()


class TestMetadata:
    def test_it_has_a_length_and_only_the_description(self, pool: SimPool, client: SimClient, vm: str) -> None:
        client.call("VM.snapshot", vm, "s")
        answer = client.get("/export_metadata", ref=vm)
        assert f"content-length: {len(answer.body)}" in answer.lines
        found = members(answer.body)
        assert list(found) == ["ova.xml"] and found["ova.xml"].count(b"<value>VM</value>") == 2
        without = client.get("/export_metadata", ref=vm, export_snapshots="false").body
        assert members(without)["ova.xml"].count(b"<value>VM</value>") == 1

    def test_a_vm_comes_back_to_the_disks_that_are_still_there(
        self, pool: SimPool, client: SimClient, vm: str
    ) -> None:
        body = client.get("/export_metadata", ref=vm).body
        disk = pool.vdis_of(vm)[0]
        client.call("VM.destroy", vm)
        assert made_by(put(client, body, "/import_metadata", dry_run="true")) == []
        with pytest.raises(KeyError):
            pool.vm_named("archived")
        (made,) = made_by(put(client, body, "/import_metadata", restore="true"))
        assert pool.vdis_of(made) == [disk]

    def test_a_disk_can_be_named_anew_and_a_missing_one_is_an_error(
        self, pool: SimPool, client: SimClient, vm: str
    ) -> None:
        body = client.get("/export_metadata", ref=vm).body
        old = pool.vdis_of(vm)[0]
        uuid = client.call("VDI.get_uuid", old)
        other = client.call("VDI.copy", old, pool.sr_named("target"))
        client.call("VM.destroy", vm)
        client.call("VDI.destroy", old)
        lost = put(client, body, "/import_metadata")
        assert lost["error_info"] == ["IMPORT_ERROR_ATTACHED_DISKS_NOT_FOUND"]
        mapping = {f"vdi:{uuid}": client.call("VDI.get_uuid", other)}
        (made,) = made_by(put(client, body, "/import_metadata", **mapping))
        assert pool.vdis_of(made) == [other]

    def test_devices_are_left_out_on_request(self, pool: SimPool, client: SimClient, vm: str) -> None:
        text = members(client.get("/export_metadata", ref=vm, excluded_device_types="VIF,VBD").body)["ova.xml"]
        assert not any(f"<value>{cls}</value>".encode() in text for cls in ("VIF", "VBD", "VDI", "network"))
        assert b"<value>VM</value>" in text

    def test_hidden_disks_above_a_vms_come_along_on_request(self, pool: SimPool, client: SimClient, vm: str) -> None:
        pool.write_disk(pool.vdis_of(vm)[0], 0, b"own", force=True)
        client.call("VM.snapshot", vm, "s")
        query = {"ref": vm, "export_snapshots": "false"}
        alone = members(client.get("/export_metadata", **query).body)["ova.xml"]
        above = members(client.get("/export_metadata", include_vhd_parents="true", **query).body)["ova.xml"]
        assert b"base copy" not in alone and above.count(b"base copy") >= 1

    def test_of_all(self, pool: SimPool, client: SimClient) -> None:
        with_dom0 = members(client.get("/export_metadata", all="true").body)["ova.xml"]
        without = members(client.get("/export_metadata", all="true", include_dom0="false").body)["ova.xml"]
        assert b"Control domain" in with_dom0 and b"Control domain" not in without
        assert client.get("/export_metadata", ref="OpaqueRef:none").status == 500


def test_sessions_are_asked_for_first(pool: SimPool, client: SimClient, vm: str) -> None:
    for path in ("/export", "/export_metadata"):
        assert client.exchange("GET", path, {"ref": vm, "session_id": "no"}, {}).status == 401
    with pytest.raises(RpcFailure):
        client.call("VM.get_record", "OpaqueRef:none")
