"""Disks that move or grow under a running VM, and what backups then find missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import DiskSpec, Options, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20


@pytest.fixture
def spec() -> PoolSpec:
    disk = DiskSpec(size_bytes=8 * MIB, filled_bytes=2 * MIB)
    return PoolSpec(
        srs=(SrSpec(name="here"), SrSpec(name="there"), SrSpec(name="images", type="iso")),
        vms=(VmSpec(name="guest", disks=(disk,)), VmSpec(name="idle", disks=(disk,), power_state="Halted")),
    )


@pytest.fixture
def vdi(pool: SimPool) -> str:
    return pool.vdis_of(pool.vm_named("guest"))[0]


def refusal(client: SimClient, method: str, *params: Any) -> list[str]:
    with pytest.raises(RpcFailure) as caught:
        client.call(method, *params)
    return [caught.value.code, *caught.value.params]


class TestMoves:
    def test_the_disk_and_its_snapshots_are_new_ones_elsewhere(
        self, pool: SimPool, client: SimClient, vdi: str
    ) -> None:
        client.call("VDI.enable_cbt", vdi)
        old = client.call("VDI.snapshot", vdi)
        pool.write_disk(vdi, 0, b"newer")
        expected = {"live": pool.disk_sha256(vdi), "snapshot": pool.disk_sha256(old)}
        there = pool.sr_named("there")
        new = client.run("VDI.pool_migrate", vdi, there, {})
        record = client.call("VDI.get_record", new)
        assert pool.vdis_of(pool.vm_named("guest")) == [new]
        assert record["SR"] == there and record["cbt_enabled"] is False and record["VBDs"]
        assert not pool.model.exists("VDI", vdi) and not pool.model.exists("VDI", old)
        (snapshot,) = record["snapshots"]
        assert client.call("VDI.get_is_a_snapshot", snapshot) and client.call("VDI.get_snapshot_of", snapshot) == new
        found = {"live": pool.disk_sha256(new), "snapshot": pool.disk_sha256(snapshot)}
        assert found == expected == {"live": pool.expected_sha256(new), "snapshot": pool.expected_sha256(snapshot)}
        pool.write_disk(new, 0, b"goes on")

    def test_a_delta_to_the_former_base_is_impossible(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        base = client.call("VDI.snapshot", vdi)
        new = client.call("VDI.pool_migrate", vdi, pool.sr_named("there"), {})
        task = client.call("task.create", "export", "")
        top = client.call("VDI.snapshot", new)
        client.get("/export_raw_vdi", vdi=top, base=base, format="vhd", task_id=task)
        assert client.wait(task)["error_info"][:2] == ["HANDLE_INVALID", "VDI"]

    def test_only_under_a_vm_and_only_to_disks(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        idle = pool.vdis_of(pool.vm_named("idle"))[0]
        there, images = pool.sr_named("there"), pool.sr_named("images")
        assert refusal(client, "VDI.pool_migrate", idle, there, {}) == ["VDI_NEEDS_VM_FOR_MIGRATE", idle]
        assert refusal(client, "VDI.pool_migrate", vdi, images, {}) == ["SR_OPERATION_NOT_SUPPORTED", images]

    def test_a_target_without_room_leaves_everything_as_it_was(
        self, pool: SimPool, client: SimClient, vdi: str
    ) -> None:
        client.call("VDI.snapshot", vdi)
        there = pool.sr_named("there")
        pool.fill_sr(there, free_bytes=3 * MIB)
        before = set(pool.model.refs("VDI"))
        assert refusal(client, "VDI.pool_migrate", vdi, there, {})[0] == "SR_BACKEND_FAILURE_44"
        assert set(pool.model.refs("VDI")) == before and pool.vdis_of(pool.vm_named("guest")) == [vdi]


class TestGrowth:
    def test_online_growth_is_gone_from_most_versions(self, client: SimClient, vdi: str) -> None:
        assert refusal(client, "VDI.resize_online", vdi, 16 * MIB) == ["MESSAGE_REMOVED"]
        assert refusal(client, "VDI.resize", vdi, 16 * MIB) == ["VDI_IN_USE", vdi, "resize"]

    def test_online_growth_where_it_exists(self, tmp_path: Path, spec: PoolSpec) -> None:
        options = Options(resize_online=True)
        with SimPool.start(tmp_path, spec=spec, options=options) as pool, SimClient(pool) as client:
            vdi = pool.vdis_of(pool.vm_named("guest"))[0]
            client.call("VDI.resize_online", vdi, 16 * MIB)
            pool.write_disk(vdi, 15 * MIB, b"end")
            assert client.call("VDI.get_virtual_size", vdi) == 16 * MIB
            assert pool.disk_sha256(vdi) == pool.expected_sha256(vdi)


def test_a_copy_against_a_base_moves_only_the_difference(pool: SimPool, client: SimClient, vdi: str) -> None:
    there = pool.sr_named("there")
    base = client.call("VDI.snapshot", vdi)
    replica = client.call("VDI.copy", base, there)
    pool.write_disk(vdi, 5 * MIB, b"changed")
    top = client.call("VDI.snapshot", vdi)
    pool.write_disk(replica, 0, b"untouched", force=True)
    assert client.call("VDI.copy", top, there, base, replica) == replica
    assert pool.disk_bytes(replica, 5 * MIB, 7) == b"changed"
    assert pool.disk_bytes(replica, 0, 9) == b"untouched"


def test_a_collector_without_room_says_so_once(pool: SimPool, client: SimClient, vdi: str) -> None:
    first = client.call("VDI.snapshot", vdi)
    pool.write_disk(vdi, 4 * MIB, b"x" * MIB)
    client.call("VDI.snapshot", vdi)
    client.call("VDI.destroy", first)
    pool.fill_sr(pool.default_sr)
    assert pool.gc() == [] == pool.gc()
    found = [record["name"] for record in client.call("message.get_all_records").values()]
    assert found == ["SM_GC_NO_SPACE"]
