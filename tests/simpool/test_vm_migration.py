"""VMs that move with their disks inside the pool, and devices that keep them where they are."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20


@pytest.fixture
def spec() -> PoolSpec:
    disk = DiskSpec(size_bytes=4 * MIB, filled_bytes=MIB)
    return PoolSpec(
        hosts=(HostSpec(name="one"), HostSpec(name="two")),
        srs=(SrSpec(name="of one"), SrSpec(name="of two", hosts=(1,)), SrSpec(name="shared", type="nfs")),
        vms=(
            VmSpec(name="guest", disks=(disk, DiskSpec(size_bytes=4 * MIB, filled_bytes=MIB, sr="shared"))),
            VmSpec(name="idle", disks=(disk,), power_state="Halted"),
        ),
    )


@pytest.fixture
def vm(pool: SimPool) -> str:
    return pool.vm_named("guest")


def destination(pool: SimPool, client: SimClient, name: str) -> dict[str, str]:
    network = client.call("network.get_all")[0]
    found: dict[str, str] = client.call("host.migrate_receive", pool.host_server(name).host, network, {})
    return found


def send(client: SimClient, vm: str, where: dict[str, str], disks: dict[str, str]) -> str:
    return client.run("VM.migrate_send", vm, where, True, disks, {}, {})


def test_a_running_vm_takes_its_disk_along_and_loses_every_lineage(pool: SimPool, client: SimClient, vm: str) -> None:
    moving, staying = pool.vdis_of(vm)
    for vdi in (moving, staying):
        client.call("VDI.enable_cbt", vdi)
    snapshot = client.call("VM.snapshot", vm, "before")
    before = pool.disk_sha256(moving)
    assert send(client, vm, destination(pool, client, "two"), {moving: pool.sr_named("of two")}) == vm
    moved, same = pool.vdis_of(vm)
    assert same == staying and not pool.model.exists("VDI", moving)
    assert pool.disk_sha256(moved) == before
    record = client.call("VDI.get_record", moved)
    assert record["SR"] == pool.sr_named("of two") and record["cbt_enabled"] is False
    assert client.call("VDI.get_cbt_enabled", same) is True
    assert client.call("VM.get_resident_on", vm) == pool.host_server("two").host
    frozen = pool.vdis_of(snapshot)[0]
    assert client.call("VDI.get_snapshot_of", frozen) == moved and pool.disk_sha256(frozen) == before
    with pytest.raises(RpcFailure, match="SR_BACKEND_FAILURE_460"):
        client.call("VDI.list_changed_blocks", frozen, client.call("VDI.snapshot", moved))


def test_a_disk_that_stays_keeps_its_log(pool: SimPool, client: SimClient, vm: str) -> None:
    moving, staying = pool.vdis_of(vm)
    client.call("VDI.enable_cbt", staying)
    first = client.call("VDI.snapshot", staying)
    send(client, vm, destination(pool, client, "two"), {moving: pool.sr_named("of two")})
    pool.write_disk(staying, 65_536, b"written there")
    bits = base64.b64decode(client.call("VDI.list_changed_blocks", first, client.call("VDI.snapshot", staying)))
    assert bits[0] == 0x40 and not any(bits[1:])


def test_what_stands_in_the_way(pool: SimPool, client: SimClient, vm: str) -> None:
    where = destination(pool, client, "two")
    arguments: tuple[Any, ...] = (vm, where, True, {}, {}, {})
    with pytest.raises(RpcFailure, match="VM_REQUIRES_SR"):
        client.call("VM.assert_can_migrate", *arguments)
    client.call("VM.add_to_blocked_operations", vm, "migrate_send", "Backup in progress")
    with pytest.raises(RpcFailure) as caught:
        client.call("VM.migrate_send", *arguments)
    assert (caught.value.code, caught.value.params) == ("OPERATION_BLOCKED", [vm, "Backup in progress"])
    with pytest.raises(RpcFailure, match="HANDLE_INVALID"):
        client.call("VM.migrate_send", pool.vm_named("idle"), {**where, "host": "OpaqueRef:none"}, True, {}, {}, {})
    pool.host_server("two").go_down()
    with pytest.raises(RpcFailure, match="HOST_OFFLINE"):
        destination(pool, client, "two")


def test_a_target_without_room_leaves_the_vm_where_it_was(pool: SimPool, client: SimClient, vm: str) -> None:
    before = pool.vdis_of(vm)
    pool.fill_sr(pool.sr_named("of two"))
    with pytest.raises(RpcFailure, match="SR_BACKEND_FAILURE_44"):
        send(client, vm, destination(pool, client, "two"), {before[0]: pool.sr_named("of two")})
    assert pool.vdis_of(vm) == before
    assert client.call("VM.get_resident_on", vm) == pool.host_server("one").host


def test_a_halted_vm_moves_too(pool: SimPool, client: SimClient) -> None:
    idle = pool.vm_named("idle")
    before = pool.disk_sha256(pool.vdis_of(idle)[0])
    send(client, idle, destination(pool, client, "two"), {pool.vdis_of(idle)[0]: pool.sr_named("of two")})
    assert pool.disk_sha256(pool.vdis_of(idle)[0]) == before
    client.call("VM.start", idle, False, False)
    assert client.call("VM.get_resident_on", idle) == pool.host_server("two").host


def test_a_passed_through_device_forbids_moving_and_memory(pool: SimPool, client: SimClient, vm: str) -> None:
    group = pool.model.create("USB_group", {"name_label": "stick"})
    vusb = client.call("VUSB.create", vm, group, {})
    assert client.call("VM.get_VUSBs", vm) == [vusb]
    for method, *more in (("suspend",), ("checkpoint", "name"), ("pool_migrate", pool.host_server("two").host, {})):
        with pytest.raises(RpcFailure) as caught:
            client.call(f"VM.{method}", vm, *more)
        assert (caught.value.code, caught.value.params) == ("VM_HAS_VUSBS", [vm])
    with pytest.raises(RpcFailure, match="USB_GROUP_CONFLICT"):
        client.call("VUSB.create", pool.vm_named("idle"), group, {})
    client.call("VUSB.destroy", vusb)
    client.call("VM.checkpoint", vm, "name")


def test_a_host_without_memory_starts_nothing(tmp_path: Path) -> None:
    disk = DiskSpec(size_bytes=2 * MIB)
    small = HostSpec(name="one", memory_bytes=(4 << 30) + 100 * MIB)
    idle = VmSpec(name="idle", disks=(disk,), power_state="Halted", memory_bytes=200 * MIB)
    with SimPool.start(tmp_path, spec=PoolSpec(hosts=(small,), vms=(idle,))) as pool, SimClient(pool) as client:
        vm, host = pool.vm_named("idle"), pool.toolstack.master
        for method, *more in (("start",), ("start_on", host)):
            with pytest.raises(RpcFailure) as caught:
                client.call(f"VM.{method}", vm, *more, False, False)
            assert (caught.value.code, caught.value.params) == (
                "HOST_NOT_ENOUGH_FREE_MEMORY",
                [str(200 * MIB), str(100 * MIB)],
            )
        assert client.call("VM.get_power_state", vm) == "Halted"
        client.call("VM.set_memory", vm, 100 * MIB)
        client.call("VM.start", vm, False, False)
        assert client.call("host.compute_free_memory", host) == 0
