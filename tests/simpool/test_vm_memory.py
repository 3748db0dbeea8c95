"""Suspending, resuming, snapshots with memory and what reverting to them gives, migration between hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xobackup.simpool.values import NULL
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20


@pytest.fixture
def spec(spec: PoolSpec) -> PoolSpec:
    """Little memory, so that its images are small."""
    return replace(spec, vms=tuple(replace(vm, memory_bytes=8 * MIB) for vm in spec.vms))


@pytest.fixture
def vm(pool: SimPool) -> str:
    return pool.vm_named("guest")


class TestSuspend:
    def test_memory_goes_to_a_disk_and_back(self, pool: SimPool, client: SimClient, vm: str) -> None:
        client.call("VM.suspend", vm)
        record = client.call("VM.get_record", vm)
        image = client.call("VDI.get_record", record["suspend_VDI"])
        assert record["power_state"] == "Suspended" and record["resident_on"] == NULL
        assert image["type"] == "suspend" and image["virtual_size"] >= record["memory_static_max"]
        assert {"resume", "hard_shutdown", "export"} <= set(record["allowed_operations"])
        client.call("VM.resume", vm, False, False)
        after = client.call("VM.get_record", vm)
        assert after["power_state"] == "Running" and after["suspend_VDI"] == NULL
        assert not pool.model.exists("VDI", record["suspend_VDI"])

    def test_a_hard_shutdown_of_a_suspended_vm_drops_the_memory(
        self, pool: SimPool, client: SimClient, vm: str
    ) -> None:
        client.call("VM.suspend", vm)
        image = client.call("VM.get_suspend_VDI", vm)
        client.call("VM.hard_shutdown", vm)
        assert client.call("VM.get_power_state", vm) == "Halted" and not pool.model.exists("VDI", image)

    def test_without_a_place_for_the_image(self, pool: SimPool, client: SimClient, vm: str) -> None:
        pool.model.update("pool", pool.toolstack.pool, suspend_image_SR=NULL)
        for method, params in (("VM.suspend", [vm]), ("VM.checkpoint", [vm, "x"])):
            with pytest.raises(RpcFailure) as caught:
                client.call(method, *params)
            assert (caught.value.code, caught.value.params) == ("VM_NO_SUSPEND_SR", [vm])
        assert client.call("VM.get_power_state", vm) == "Running"


class TestCheckpoint:
    def test_it_is_a_suspended_snapshot_with_an_image_of_its_own(
        self, pool: SimPool, client: SimClient, vm: str
    ) -> None:
        pool.write_disk(pool.vdis_of(vm)[0], 0, b"kept")
        made = client.run("VM.checkpoint", vm, "with memory")
        record = client.call("VM.get_record", made)
        assert record["power_state"] == "Suspended" and record["is_a_snapshot"] and record["snapshot_of"] == vm
        image = record["suspend_VDI"]
        assert client.call("VDI.get_type", image) == "suspend"
        assert pool.disk_sha256(image) == pool.expected_sha256(image)
        assert any(pool.disk_bytes(image, 0, 4096))
        live = client.call("VM.get_record", vm)
        assert live["power_state"] == "Running" and live["suspend_VDI"] == NULL and live["parent"] == made

    def test_only_of_vms_that_run_or_are_suspended(self, pool: SimPool, client: SimClient) -> None:
        idle = pool.vm_named("idle")
        with pytest.raises(RpcFailure) as caught:
            client.call("VM.checkpoint", idle, "x")
        assert caught.value.params == [idle, "paused, suspended, running", "halted"]

    def test_of_a_suspended_vm(self, pool: SimPool, client: SimClient, vm: str) -> None:
        client.call("VM.suspend", vm)
        made = client.call("VM.checkpoint", vm, "x")
        mine, theirs = client.call("VM.get_suspend_VDI", vm), client.call("VM.get_suspend_VDI", made)
        assert mine != theirs and pool.disk_sha256(mine) == pool.disk_sha256(theirs)

    def test_a_failing_disk_leaves_no_image_behind(self, pool: SimPool, client: SimClient, vm: str) -> None:
        pool.model.update("VDI", pool.vdis_of(vm)[1], sharable=True)
        before = set(pool.model.refs("VDI"))
        with pytest.raises(RpcFailure, match="VDI_IS_SHARABLE"):
            client.call("VM.checkpoint", vm, "x")
        left = {ref for ref in set(pool.model.refs("VDI")) - before if pool.model.get("VDI", ref)["managed"]}
        assert not left

    def test_reverting_to_it_gives_a_suspended_vm(self, pool: SimPool, client: SimClient, vm: str) -> None:
        disk = pool.vdis_of(vm)[0]
        pool.write_disk(disk, 0, b"before")
        made = client.call("VM.checkpoint", vm, "x")
        memory = pool.disk_sha256(client.call("VM.get_suspend_VDI", made))
        pool.write_disk(disk, 0, b"after!")
        client.call("VM.revert", made)
        record = client.call("VM.get_record", vm)
        assert record["power_state"] == "Suspended"
        assert pool.disk_sha256(record["suspend_VDI"]) == memory
        assert pool.disk_bytes(pool.vdis_of(vm)[0], 0, 6) == b"before"
        client.call("VM.resume", vm, False, False)
        assert pool.model.exists("VDI", client.call("VM.get_suspend_VDI", made))


class TestRevert:
    def test_a_running_vm_is_stopped_and_gets_its_settings_back(
        self, pool: SimPool, client: SimClient, vm: str
    ) -> None:
        snapshot = client.call("VM.snapshot", vm, "s")
        before = client.call("VM.get_memory_static_max", vm)
        pool.model.update("VM", vm, memory_static_max=before * 2)
        client.call("VM.revert", snapshot)
        assert client.call("VM.get_power_state", vm) == "Halted"
        assert client.call("VM.get_memory_static_max", vm) == before
        client.call("VM.start", vm, False, False)

    def test_a_vtpm_comes_back_as_it_was_and_once(self, pool: SimPool, client: SimClient) -> None:
        idle = pool.vm_named("idle")
        vtpm = client.call("VTPM.create", idle, False)
        client.call("VTPM.set_contents", vtpm, "b2xk")
        snapshot = client.call("VM.snapshot", idle, "s")
        client.call("VTPM.set_contents", vtpm, "bmV3")
        client.call("VM.revert", snapshot)
        found = client.call("VM.get_VTPMs", idle)
        assert [client.call("VTPM.get_contents", one) for one in found] == ["b2xk"]


class TestMigration:
    @pytest.fixture
    def spec(self) -> PoolSpec:
        hosts = (HostSpec(name="one"), HostSpec(name="two"))
        srs = (SrSpec(name="shared", type="nfs"), SrSpec(name="local", hosts=(0,)))
        near = DiskSpec(size_bytes=4 * MIB, sr="local")
        guest = VmSpec(name="guest", disks=(DiskSpec(size_bytes=4 * MIB),))
        return PoolSpec(hosts=hosts, srs=srs, vms=(guest, VmSpec(name="bound", disks=(near,))))

    def test_a_vm_moves_and_keeps_its_disks_and_logs(self, pool: SimPool, client: SimClient, vm: str) -> None:
        disk, host = pool.vdis_of(vm)[0], pool.host_server("two").host
        client.call("VDI.enable_cbt", disk)
        first = client.call("VDI.snapshot", disk)
        client.run("VM.pool_migrate", vm, host, {})
        assert client.call("VM.get_resident_on", vm) == host and pool.vdis_of(vm) == [disk]
        assert client.call("VDI.get_sm_config", disk)[f"host_{host}"] == "RW"
        client.call("VDI.list_changed_blocks", first, client.call("VDI.snapshot", disk))

    def test_not_where_a_disk_cannot_follow(self, pool: SimPool, client: SimClient) -> None:
        with pytest.raises(RpcFailure, match="VM_REQUIRES_SR"):
            client.call("VM.pool_migrate", pool.vm_named("bound"), pool.host_server("two").host, {})


def test_images_survive_a_restart(tmp_path: Path, spec: PoolSpec) -> None:
    with SimPool.start(tmp_path, spec=spec) as pool:
        pool.call("VM.suspend", pool.vm_named("guest"))
    with SimPool.start(tmp_path, spec=spec) as pool:
        pool.call("VM.resume", pool.vm_named("guest"))
        assert pool.model.get("VM", pool.vm_named("guest"))["power_state"] == "Running"
