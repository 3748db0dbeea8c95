"""Xen Orchestra's sequences against the simulated pool, one test each, by a plain client with its manners.

Backups, restores, replication, health checks, metadata: the calls in their order, with the event loop, the write
barrier, ``task_create``, the empty PUT, redirects and the patience with busy disks. Two hosts; one repository is seen
by the second one only, so that transfers are sent there.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import DiskSpec, HostSpec, Options, PoolSpec, SimPool, SrSpec, VmSpec
from xotest import xo_steps as steps
from xotest.programs import need
from xotest.xo_steps import BLOCK
from xotest.xoclient import NULL, XoClient, XoFailure

MIB = 1 << 20


@pytest.fixture
def options() -> Options:
    return Options()


@pytest.fixture
def pool(tmp_path: Path, options: Options) -> Iterator[SimPool]:
    small = DiskSpec(size_bytes=4 * MIB, filled_bytes=MIB)
    spec = PoolSpec(
        hosts=(HostSpec(name="one"), HostSpec(name="two")),
        srs=(
            SrSpec(name="shared", type="nfs"),
            SrSpec(name="of two", hosts=(1,)),
            SrSpec(name="images", type="iso"),
        ),
        nbd="nbd",
        vms=(
            VmSpec(
                name="guest",
                disks=(DiskSpec(size_bytes=8 * MIB, filled_bytes=3 * MIB), small),
                tags=("web",),
                memory_bytes=32 * MIB,
                cd_drive=True,
            ),
            VmSpec(name="idle", disks=(replace(small, sr="of two"),), power_state="Halted"),
        ),
    )
    with SimPool.start(tmp_path / "pool", spec=spec, options=options) as started:
        yield started


@pytest.fixture
def xo(pool: SimPool) -> Iterator[XoClient]:
    """Given the address of a host that is not the master."""
    guest = pool.vm_named("guest")
    with XoClient(pool, url=f"https://{pool.host_server('two').address}") as connected:
        yield connected
        assert not connected.call("VM.get_blocked_operations", guest)


@pytest.fixture
def guest(pool: SimPool) -> str:
    return pool.vm_named("guest")


def sums(pool: SimPool, vdis: list[str]) -> list[str]:
    return [pool.disk_sha256(vdi) for vdi in vdis]


def records_of(xo: XoClient, vm: str, field: str) -> list[dict[str, Any]]:
    cls = field.removesuffix("s")
    return [xo.call(f"{cls}.get_record", ref) for ref in xo.call(f"VM.get_{field}", vm)]


def test_a_client_that_asks_a_member_ends_up_at_the_master(pool: SimPool, xo: XoClient) -> None:
    assert xo.master == pool.server_address and xo.product == "8.3.0"
    assert {"VM", "VDI", "VBD", "SR", "PBD", "host", "pool", "network", "VIF", "task"} <= set(xo.classes)


def test_a_session_that_has_gone_is_replaced_without_a_word(pool: SimPool, xo: XoClient, guest: str) -> None:
    pool.toolstack.sessions.end_all()
    xo.call("VM.set_name_description", guest, "still here")
    xo.barrier()
    assert xo.record(guest)["name_description"] == "still here"


class TestBackup:
    def test_deltas_by_streams(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        live = xo.disks(guest)
        images = {vdi: bytearray(xo.record(vdi)["virtual_size"]) for vdi in live}
        older = ""
        for run in range(3):
            steps.begin(xo, guest)
            bases = steps.base_of(xo, guest)
            assert steps.chains_are_healthy(xo, guest)
            made = steps.snapshot(xo, guest, f"2026010{run + 1}T00:00:00Z")
            for vdi, frozen in zip(live, xo.disks(made), strict=True):
                body = steps.stream(xo, frozen, bases.get(vdi, ""))
                steps.lay_over(images[vdi], body)
                assert images[vdi] == pool.disk_bytes(frozen)
                assert (run == 0) == (body[60:64] == b"\0\0\0\3")  # dynamic first, then differencing
            assert [xo.call("VTPM.get_contents", one) for one in xo.call("VM.get_VTPMs", made)] == []
            steps.exported(xo, made, run)
            if bases:
                xo.destroy_vm(older)
            older = made
            steps.end(xo, guest)
            pool.write_disk(live[0], run * BLOCK + 4096, b"changed" * 1000)
            pool.gc(pool.sr_named("shared"))
        assert len(xo.call("VM.get_snapshots", guest)) == 1
        assert {"migrate_send", "pool_migrate"} <= set(xo.call("VM.get_allowed_operations", guest))

    def test_what_lies_on_another_hosts_disk_is_read_there(self, pool: SimPool, xo: XoClient) -> None:
        idle = pool.vm_named("idle")
        steps.begin(xo, idle)
        made = steps.snapshot(xo, idle, "20260101T00:00:00Z")
        body = steps.stream(xo, xo.disks(made)[0])
        assert xo.followed == [pool.host_server("two").address]
        image = bytearray(4 * MIB)
        steps.lay_over(image, body)
        assert image == pool.disk_bytes(xo.disks(idle)[0])
        xo.destroy_vm(made)
        steps.end(xo, idle)

    def test_the_busy_snapshot_of_an_older_run_is_waited_for(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        steps.begin(xo, guest)
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z")
        frozen = xo.disks(made)
        pool.faults.linger("export", 60.0)
        steps.stream(xo, frozen[0])
        xo.destroy_vm(made)
        steps.end(xo, guest)
        assert xo.waited == 1 and not any(pool.model.exists("VDI", vdi) for vdi in frozen)

    def test_an_answer_inside_the_body_is_no_disk(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z")
        pool.faults.break_transfer("export", after_bytes=0, how="error")
        with pytest.raises(XoFailure, match="HTTP_ERROR_IN_BODY"):
            xo.get("/export_raw_vdi/", "export", vdi=xo.disks(made)[0], format="vhd")

    def test_disks_that_are_not_wanted_are_left_out(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        live = xo.disks(guest)
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z", ignored=(live[1],))
        assert [xo.call("VDI.get_snapshot_of", vdi) for vdi in xo.disks(made)] == [live[0]]

    def test_a_whole_vm_is_one_archive(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        steps.begin(xo, guest)
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z")
        body = xo.get("/export/", "VM export", ref=made, use_compression="zstd")
        assert body[:4] == bytes.fromhex("28b52ffd")
        plain = subprocess.run([need("zstd"), "-dcq"], input=body, capture_output=True, check=True).stdout
        assert len(plain) % 512 == 0 and plain[-1024:] == bytes(1024)
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            names = archive.getnames()
        assert names[0] == "ova.xml" and all(name.endswith(".xxhash") for name in names[2::2])
        xo.destroy_vm(made)
        steps.end(xo, guest)

    def test_offline_the_vm_itself_is_exported(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        steps.begin(xo, guest)
        xo.call_async("VM.clean_shutdown", guest)
        body = xo.get("/export/", "VM export", ref=guest, use_compression="false")
        assert body[:7] == b"ova.xml" and body[-1024:] == bytes(1024)
        xo.call_async("VM.start", guest, False, False)
        steps.end(xo, guest)
        assert xo.record(guest)["power_state"] == "Running" and not xo.call("VM.get_snapshots", guest)

    def test_with_memory(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        steps.begin(xo, guest)
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z", memory=True)
        record = xo.call("VM.get_record", made)
        assert record["power_state"] == "Suspended"
        image = record["suspend_VDI"]
        body = steps.stream(xo, image)
        content = bytearray(xo.call("VDI.get_virtual_size", image))
        steps.lay_over(content, body)
        assert content == pool.disk_bytes(image)
        xo.destroy_vm(made)
        xo.destroy_vdi(image)
        steps.end(xo, guest)
        halted = steps.snapshot(xo, pool.vm_named("idle"), "20260101T00:00:00Z", memory=True)  # a plain one then
        assert xo.call("VM.get_suspend_VDI", halted) == NULL


class TestTracking:
    @pytest.fixture
    def options(self) -> Options:
        return Options(data_destroy_wait_s=0.02)

    def test_blocks_by_nbd_and_snapshots_whose_data_goes(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        live = xo.disks(guest)
        images = {vdi: bytearray(xo.record(vdi)["virtual_size"]) for vdi in live}
        metadata: dict[str, str] = {}
        for run in range(3):
            steps.begin(xo, guest)
            made = steps.snapshot(xo, guest, f"2026010{run + 1}T00:00:00Z", tracked=True)
            frozen = xo.disks(made)
            for vdi, one in zip(live, frozen, strict=True):
                if vdi in metadata:
                    indexes = steps.map_by_tracking(xo, one, metadata[vdi])
                    assert indexes == ([run - 1] if vdi == live[0] else [])
                else:
                    indexes = steps.map_by_stream(xo, one)
                for index, data in steps.blocks_by_nbd(xo, pool, one, indexes).items():
                    images[vdi][index * BLOCK : index * BLOCK + len(data)] = data
                assert images[vdi] == pool.disk_bytes(one)
            steps.exported(xo, made, run)
            pool.faults.linger("nbd", 60.0)
            steps.blocks_by_nbd(xo, pool, frozen[0], [0])
            xo.destroy_vm(made, disks=False)
            for one in frozen:
                xo.patiently(one, lambda one=one: xo.call_async("VDI.data_destroy", one))  # type: ignore[misc]
                assert xo.call("VDI.get_type", one) == "cbt_metadata"
            for old in metadata.values():
                xo.destroy_vdi(old)
            metadata = dict(zip(live, frozen, strict=True))
            steps.end(xo, guest)
            pool.write_disk(live[0], run * BLOCK + 65_536, b"changed")
        assert xo.waited == 3

    def test_a_base_whose_log_is_gone_is_no_base(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        first = steps.snapshot(xo, guest, "20260101T00:00:00Z", tracked=True)
        pool.faults.lose_change_log(times=2)
        second = steps.snapshot(xo, guest, "20260102T00:00:00Z", tracked=True)
        one, other = xo.disks(first)[0], xo.disks(second)[0]
        assert xo.call("VDI.get_cbt_enabled", other) is False
        with pytest.raises(XoFailure, match="SR_BACKEND_FAILURE_460"):
            xo.call_async("VDI.list_changed_blocks", one, other)
        assert steps.map_by_stream(xo, other, one) == []  # by the stream a delta is still there


class TestRestore:
    @pytest.fixture
    def point(self, pool: SimPool, xo: XoClient, guest: str) -> dict[str, Any]:
        """A restore point of the guest: its records and streams."""
        xo.call("VM.hard_shutdown", guest)
        vtpm = xo.call("VTPM.create", guest, False)
        xo.call("VTPM.set_contents", vtpm, "c2VjcmV0")
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z")
        found = {
            "vm": xo.call("VM.get_record", made),
            "vdis": [xo.call("VDI.get_record", vdi) for vdi in xo.disks(made)],
            "vbds": [vbd for vbd in records_of(xo, made, "VBDs") if vbd["type"] == "Disk"],
            "vifs": records_of(xo, made, "VIFs"),
            "vtpms": [xo.call("VTPM.get_contents", ref) for ref in xo.call("VM.get_VTPMs", made)],
            "streams": [steps.stream(xo, vdi) for vdi in xo.disks(made)],
            "sums": sums(pool, xo.disks(made)),
        }
        xo.destroy_vm(made)
        return found

    def test_a_new_vm_on_a_repository_that_another_host_sees(
        self, pool: SimPool, xo: XoClient, guest: str, point: dict[str, Any]
    ) -> None:
        sr = pool.sr_named("of two")
        vm = steps.create_vm(xo, point["vm"], "guest")
        assert "start" not in xo.call("VM.get_allowed_operations", vm)
        disks = [steps.create_disk(xo, record, sr) for record in point["vdis"]]
        for vdi, record in zip(disks, sorted(point["vbds"], key=lambda vbd: int(vbd["userdevice"])), strict=True):
            steps.attach(xo, vm, vdi, record)
        steps.interfaces(xo, vm, point["vifs"])
        for vdi, body in zip(disks, point["streams"], strict=True):
            steps.fill(xo, vdi, body)
        assert xo.followed == [pool.host_server("two").address] * 2
        for old in xo.call("VM.get_VTPMs", vm):
            xo.call("VTPM_destroy", old)
        for contents in point["vtpms"]:
            xo.call("VTPM.set_contents", xo.call("VTPM.create", vm, False), contents)
        steps.finish_vm(xo, vm, "guest (20260101T000000Z)")
        xo.call("VM.add_tags", vm, "restored from backup")
        assert sums(pool, xo.disks(vm)) == point["sums"] and point["vtpms"] == ["c2VjcmV0"]
        record = xo.call("VM.get_record", vm)
        assert record["tags"] == ["web", "restored from backup"] and not record["blocked_operations"]
        assert [vif["MAC"] for vif in records_of(xo, vm, "VIFs")] == [vif["MAC"] for vif in point["vifs"]]
        xo.call_async("VM.start", vm, False, False)
        assert xo.call("VM.get_resident_on", vm) == pool.host_server("two").host

    def test_new_addresses_on_request(self, xo: XoClient, point: dict[str, Any]) -> None:
        config = {key: value for key, value in point["vm"]["other_config"].items() if key != "mac_seed"}
        vm = steps.create_vm(xo, point["vm"], "guest", other_config=config)
        steps.interfaces(xo, vm, point["vifs"], new_macs=True)
        made = records_of(xo, vm, "VIFs")[0]
        assert made["MAC_autogenerated"] and made["MAC"] != point["vifs"][0]["MAC"]
        assert xo.call("VM.get_other_config", vm)["mac_seed"] != point["vm"]["other_config"]["mac_seed"]

    def test_what_was_made_is_removed_after_a_failure(
        self, pool: SimPool, xo: XoClient, point: dict[str, Any]
    ) -> None:
        before = xo.find("VM", lambda _record: True), xo.find("VDI", lambda _record: True)
        vm = steps.create_vm(xo, point["vm"], "guest")
        vdi = steps.create_disk(xo, point["vdis"][0], pool.sr_named("shared"))
        steps.attach(xo, vm, vdi, point["vbds"][0])
        pool.faults.break_transfer("import", after_bytes=MIB, how="error")
        with pytest.raises(XoFailure, match="VDI_IO_ERROR"):
            steps.fill(xo, vdi, point["streams"][0])
        xo.destroy_vm(vm, bypass=True)
        xo.barrier()
        assert (xo.find("VM", lambda _record: True), xo.find("VDI", lambda _record: True)) == before

    def test_a_suspended_vm_gets_its_memory_back(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z", memory=True)
        record = xo.call("VM.get_record", made)
        image = xo.call("VDI.get_record", record["suspend_VDI"])
        body = steps.stream(xo, record["suspend_VDI"])
        memory = steps.create_disk(xo, image, pool.sr_named("shared"))
        vm = steps.create_vm(xo, record, "guest", power_state="Suspended", suspend_VDI=memory)
        assert xo.call("VM.get_power_state", vm) == "Suspended"
        steps.fill(xo, memory, body)
        steps.finish_vm(xo, vm, "guest (with memory)")
        assert pool.disk_sha256(memory) == pool.disk_sha256(record["suspend_VDI"])
        xo.call_async("VM.resume", vm, False, False)
        assert xo.call("VM.get_power_state", vm) == "Running"


class TestReplication:
    def test_one_vm_that_follows_by_deltas(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        sr, live = pool.sr_named("of two"), xo.disks(guest)
        reason = "Start operation for this vm is blocked, clone it if you want to use it."
        replica, older, targets, bases = "", "", {}, {}
        for run in range(3):
            stamp = f"2026010{run + 1}T00:00:00Z"
            steps.begin(xo, guest)
            made = steps.snapshot(xo, guest, stamp)
            record = xo.call("VM.get_record", made)
            streams = {
                vdi: steps.stream(xo, one, bases.get(vdi, "")) for vdi, one in zip(live, xo.disks(made), strict=True)
            }
            if replica:
                limits = (f"memory_{name}" for name in ("static_min", "static_max", "dynamic_min", "dynamic_max"))
                xo.call("VM.set_memory_limits", replica, *(record[limit] for limit in limits))
                for field in (
                    "name_description",
                    "HVM_boot_params",
                    "platform",
                    "VCPUs_max",
                    "tags",
                    "xenstore_data",
                ):
                    xo.call(f"VM.set_{field}", replica, record[field])
                xo.block(replica, dict.fromkeys(("start", "start_on"), "Importing…"))
                for vbd in xo.call("VM.get_VBDs", replica):
                    xo.call("VBD.destroy", vbd)
            else:
                replica = steps.create_vm(xo, record, "guest")
                targets = {vdi: steps.create_disk(xo, xo.call("VDI.get_record", vdi), sr) for vdi in live}
            vbds = [vbd for vbd in records_of(xo, made, "VBDs") if vbd["type"] == "Disk"]
            for (vdi, target), vbd in zip(targets.items(), vbds, strict=True):
                steps.attach(xo, replica, target, vbd)
                steps.fill(xo, target, streams[vdi])
            steps.interfaces(xo, replica, records_of(xo, made, "VIFs"))
            steps.finish_vm(xo, replica, f"[XO Backup cr] guest {stamp}", blocked=reason)
            kept = xo.call_async("VM.snapshot", replica, f"guest - cr {stamp}")
            xo.call("VM.set_is_a_template", kept, False)
            assert sums(pool, xo.disks(replica)) == sums(pool, xo.disks(made)) == sums(pool, xo.disks(kept))
            if bases:
                xo.destroy_vm(older)
            older = made
            bases = dict(zip(live, xo.disks(made), strict=True))
            steps.end(xo, guest)
            pool.write_disk(live[0], run * BLOCK, b"more" * 100)
            pool.gc(sr)
        with pytest.raises(XoFailure, match="OPERATION_BLOCKED"):
            xo.call_async("VM.start", replica, False, False)
        assert len(xo.call("VM.get_snapshots", replica)) == 3
        oldest = min(xo.call("VM.get_snapshots", replica), key=lambda ref: xo.record(ref)["snapshot_time"])
        xo.destroy_vm(oldest, bypass=True)
        assert set(xo.followed) == {pool.host_server("two").address}

    def test_a_copy_per_run_by_an_archive(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z")
        archive = xo.get("/export/", "VM export", ref=made, use_compression="false")
        result = xo.put("/import/", archive, "VM import", sr_id=pool.sr_named("of two"))
        copy = f"OpaqueRef:{result.rpartition('OpaqueRef:')[2]}"
        xo.block(copy, dict.fromkeys(("start", "start_on"), "a replica"))
        xo.call("VM.set_ha_restart_priority", copy, "")
        xo.call("VM.add_tags", copy, "Disaster Recovery")
        xo.call("VM.set_name_label", copy, "guest - job - (20260101T000000Z)")
        assert sums(pool, xo.disks(copy)) == sums(pool, xo.disks(made))
        xo.destroy_vm(copy, bypass=True)

    def test_a_migrated_disk_is_no_base_any_more(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        steps.snapshot(xo, guest, "20260101T00:00:00Z", tracked=True)
        before = xo.disks(guest)
        xo.call_async("VDI.pool_migrate", before[0], pool.sr_named("of two"), {})
        after = xo.disks(guest)
        assert after[0] != before[0] and xo.call("VDI.get_cbt_enabled", after[0]) is False


class TestHealthCheck:
    @pytest.mark.parametrize("place", ["shared", "of two"])
    def test_a_copy_starts_without_a_network_and_goes(
        self, pool: SimPool, xo: XoClient, guest: str, place: str
    ) -> None:
        made = steps.snapshot(xo, guest, "20260101T00:00:00Z")
        sr = pool.sr_named(place)
        same = all(xo.record(vdi)["SR"] == sr for vdi in xo.disks(made))
        name = "Health Check - guest"
        vm = xo.call_async("VM.clone", made, name) if same else xo.call_async("VM.copy", made, name, sr)
        xo.call("VM.set_is_a_template", vm, False)
        for vif in xo.call("VM.get_VIFs", vm):
            xo.call("VIF.destroy", vif)
        xo.call("VM.set_xenstore_data", vm, {"vm-data/xo-backup-health-check": "planned"})
        xo.call_async("VM.start", vm, False, False)
        record = xo.wait_for(vm, lambda record: record["power_state"] == "Running")
        assert record is not None
        tools = xo.wait_for(record["guest_metrics"], lambda metrics: metrics["PV_drivers_detected"])
        assert tools is not None and tools["networks"] == {}
        disks = xo.disks(vm)
        xo.destroy_vm(vm, bypass=True)
        xo.wait_for(vm, None)
        assert not any(pool.model.exists("VDI", vdi) for vdi in disks)


class TestMetadata:
    def test_the_database_and_the_records_of_pool_and_master(self, pool: SimPool, xo: XoClient) -> None:
        dump = xo.get("/pool/xmldbdump", "Xapi#getResource /pool/xmldbdump")
        assert dump.startswith(b"<?xml") and pool.spec.name.encode() in dump
        master = xo.call("pool.get_record", xo.pool)["master"]
        assert xo.call("host.get_record", master)["software_version"]["product_brand"] == "XCP-ng"

    def test_what_was_dumped_comes_back(self, pool: SimPool, xo: XoClient, guest: str) -> None:
        dump = xo.get("/pool/xmldbdump", "dump")
        xo.call("VM.set_name_label", guest, "renamed")
        answer = xo.put("/pool/xmldbdump", dump, "restore", dry_run="true")
        assert answer == "" and xo.call("VM.get_name_label", guest) == "renamed"
