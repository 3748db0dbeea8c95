"""Changed block tracking: what the logs say, what they forget, and who may ask."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import DiskSpec, Failure, Options, PoolSpec, SimPool, VmSpec
from xobackup.simpool.cbt import GRAIN_BYTES
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20


@pytest.fixture
def vm(pool: SimPool) -> str:
    return pool.vm_named("guest")


@pytest.fixture
def vdi(pool: SimPool, client: SimClient, vm: str) -> str:
    """A tracked disk of 8 MiB."""
    found = pool.vdis_of(vm)[0]
    client.call("VDI.enable_cbt", found)
    return found


def grains(text: str) -> set[int]:
    bits = base64.b64decode(text)
    return {index for index in range(8 * len(bits)) if bits[index >> 3] & 0x80 >> (index & 7)}


def touched(*writes: tuple[int, int]) -> set[int]:
    return {
        grain
        for offset, length in writes
        for grain in range(offset // GRAIN_BYTES, (offset + length - 1) // GRAIN_BYTES + 1)
    }


def refusal(client: SimClient, method: str, *params: Any) -> list[str]:
    with pytest.raises(RpcFailure) as caught:
        client.call(method, *params)
    return [caught.value.code, *caught.value.params]


def unrelated(detail: str = "Source and target VDI are unrelated") -> list[str]:
    text = f"Failed to calculate changed blocks for given VDIs. [opterr={detail}]"
    return ["SR_BACKEND_FAILURE_460", "", text, ""]


class TestLists:
    def test_what_was_written_between_two_snapshots(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        first = client.call("VDI.snapshot", vdi)
        pool.write_disk(vdi, 3 * GRAIN_BYTES - 512, b"x" * 1024)
        pool.write_disk(vdi, 8 * MIB - 512, b"y" * 512)
        second = client.call("VDI.snapshot", vdi)
        pool.write_disk(vdi, 0, b"later")
        text = client.call("VDI.list_changed_blocks", first, second)
        assert len(base64.b64decode(text)) == 16
        assert grains(text) == {2, 3, 127}
        assert base64.b64decode(text)[0] == 0b00110000

    def test_ranges_over_several_snapshots(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        chain = [client.call("VDI.snapshot", vdi)]
        for number in range(4):
            pool.write_disk(vdi, number * MIB, b"z" * 512)
            chain.append(client.call("VDI.snapshot", vdi))
        assert grains(client.call("VDI.list_changed_blocks", chain[1], chain[4])) == {16, 32, 48}
        assert grains(client.call("VDI.list_changed_blocks", chain[0], chain[1])) == {0}
        assert refusal(client, "VDI.list_changed_blocks", chain[2], chain[1]) == unrelated()
        same = unrelated("Source and target VDI are same")
        assert refusal(client, "VDI.list_changed_blocks", chain[1], chain[1]) == same

    def test_the_first_base_is_the_snapshot_after_enabling(self, pool: SimPool, client: SimClient, vm: str) -> None:
        disk = pool.vdis_of(vm)[1]
        before = client.call("VDI.snapshot", disk)
        client.call("VDI.enable_cbt", disk)
        after = client.call("VDI.snapshot", disk)
        assert client.call("VDI.get_cbt_enabled", before) is False
        assert client.call("VDI.get_cbt_enabled", after) is True
        assert refusal(client, "VDI.list_changed_blocks", before, after) == unrelated()

    def test_the_task_of_an_asynchronous_call_carries_the_text(self, client: SimClient, vdi: str) -> None:
        first, second = client.call("VDI.snapshot", vdi), client.call("VDI.snapshot", vdi)
        assert client.run("VDI.list_changed_blocks", first, second) == base64.b64encode(bytes(16)).decode()

    def test_the_live_disk_is_a_target_only_while_nobody_holds_it(
        self, pool: SimPool, client: SimClient, vdi: str, vm: str
    ) -> None:
        first = client.call("VDI.snapshot", vdi)
        pool.write_disk(vdi, 0, b"x")
        in_use = ["VDI_IN_USE", vdi, "list_changed_blocks"]
        assert refusal(client, "VDI.list_changed_blocks", first, vdi) == in_use
        client.call("VM.hard_shutdown", vm)
        assert grains(client.call("VDI.list_changed_blocks", first, vdi)) == {0}

    def test_a_grown_disk_gives_the_longer_list(self, pool: SimPool, client: SimClient, vdi: str, vm: str) -> None:
        first = client.call("VDI.snapshot", vdi)
        client.call("VM.hard_shutdown", vm)
        client.call("VDI.resize", vdi, 16 * MIB)
        pool.write_disk(vdi, 15 * MIB, b"x", force=True)
        second = client.call("VDI.snapshot", vdi)
        text = client.call("VDI.list_changed_blocks", first, second)
        assert len(base64.b64decode(text)) == 32 and grains(text) == {240}

    def test_an_import_counts_as_writing(self, pool: SimPool, client: SimClient, vdi: str, vm: str) -> None:
        client.call("VM.hard_shutdown", vm)
        first = client.call("VDI.snapshot", vdi)
        task = client.call("task.create", "import", "")
        client.put("/import_raw_vdi", b"i" * MIB, vdi=vdi, task_id=task)
        assert client.wait(task)["status"] == "success"
        second = client.call("VDI.snapshot", vdi)
        assert grains(client.call("VDI.list_changed_blocks", first, second)) == set(range(16))


class TestDestroying:
    def test_a_destroyed_snapshot_leaves_its_changes_to_its_child(
        self, pool: SimPool, client: SimClient, vdi: str
    ) -> None:
        first = client.call("VDI.snapshot", vdi)
        pool.write_disk(vdi, 0, b"x")
        middle = client.call("VDI.snapshot", vdi)
        pool.write_disk(vdi, MIB, b"x")
        last = client.call("VDI.snapshot", vdi)
        client.call("VDI.destroy", middle)
        assert grains(client.call("VDI.list_changed_blocks", first, last)) == {0, 16}

    def test_data_destroy_keeps_record_and_log(self, pool: SimPool, client: SimClient, vdi: str, vm: str) -> None:
        snapshot = client.call("VM.snapshot", vm, "s")
        first = pool.vdis_of(snapshot)[0]
        client.call("VM.destroy", snapshot)
        used = pool.model.get("SR", pool.default_sr)["physical_utilisation"]
        client.call("VDI.data_destroy", first)
        record = client.call("VDI.get_record", first)
        assert record["type"] == "cbt_metadata" and record["cbt_enabled"] and record["is_a_snapshot"]
        assert record["snapshot_of"] == vdi and record["managed"] and record["VBDs"] == []
        assert set(record["allowed_operations"]) == {"destroy", "forget", "update", "generate_config"}
        assert pool.model.get("SR", pool.default_sr)["physical_utilisation"] < used
        client.call("VDI.data_destroy", first)
        pool.write_disk(vdi, 0, b"x")
        second = client.call("VDI.snapshot", vdi)
        assert grains(client.call("VDI.list_changed_blocks", first, second)) == {0}
        client.call("VDI.destroy", first)
        assert not pool.model.exists("VDI", first)

    def test_data_destroy_takes_the_devices_of_a_snapshot_vm_along(
        self, pool: SimPool, client: SimClient, vdi: str, vm: str
    ) -> None:
        snapshot = client.call("VM.snapshot", vm, "s")
        first = pool.vdis_of(snapshot)[0]
        client.call("VDI.data_destroy", first)
        assert first not in pool.vdis_of(snapshot)

    def test_metadata_is_good_for_nothing_else(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        first, second = client.call("VDI.snapshot", vdi), client.call("VDI.snapshot", vdi)
        client.call("VDI.data_destroy", first)
        wrong = ["VDI_INCOMPATIBLE_TYPE", first, "cbt_metadata"]
        for method in ("VDI.snapshot", "VDI.clone", "VDI.get_nbd_info"):
            assert refusal(client, method, first) == wrong
        assert refusal(client, "VDI.copy", first, pool.default_sr) == wrong
        task = client.call("task.create", "export", "")
        answer = client.get("/export_raw_vdi", vdi=second, base=first, format="vhd", task_id=task)
        assert answer.status == 200 and answer.body.startswith(b"HTTP/1.1 500 Internal Error")
        assert client.wait(task)["error_info"] == wrong

    def test_who_still_holds_the_snapshot_is_waited_for_a_little(self, tmp_path: Path, spec: PoolSpec) -> None:
        options = Options(data_destroy_wait_s=0.05, dom0_linger_s=0.0)
        with SimPool.start(tmp_path, spec=spec, options=options) as pool, SimClient(pool) as client:
            disk = pool.vdis_of(pool.vm_named("guest"))[0]
            client.call("VDI.enable_cbt", disk)
            snapshot = client.call("VDI.snapshot", disk)
            pool.faults.linger("export", 0.4)
            client.get("/export_raw_vdi", vdi=snapshot, format="vhd")
            assert refusal(client, "VDI.data_destroy", snapshot) == ["VDI_IN_USE", snapshot, "data_destroy"]
            assert client.call("VDI.get_type", snapshot) == "user"

    def test_a_snapshot_that_is_let_go_in_time_is_destroyed(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        snapshot = client.call("VDI.snapshot", vdi)
        pool.faults.linger("export", 0.2)
        client.get("/export_raw_vdi", vdi=snapshot, format="vhd")
        client.call("VDI.data_destroy", snapshot)
        assert client.call("VDI.get_type", snapshot) == "cbt_metadata"


class TestRefusals:
    def test_switching(self, pool: SimPool, client: SimClient, vdi: str, vm: str) -> None:
        client.call("VDI.enable_cbt", vdi)
        snapshot = client.call("VDI.snapshot", vdi)
        text = f"VDI is a snapshot: {snapshot}"
        assert refusal(client, "VDI.enable_cbt", snapshot) == ["OPERATION_NOT_ALLOWED", text]
        assert refusal(client, "VDI.disable_cbt", snapshot) == ["OPERATION_NOT_ALLOWED", text]
        image = next(
            ref for ref, record in pool.model.records("VDI").items() if record["location"] == "installer.iso"
        )
        sr = pool.model.get("VDI", image)["SR"]
        assert refusal(client, "VDI.enable_cbt", image) == ["SR_OPERATION_NOT_SUPPORTED", sr]
        pool.model.update("VDI", pool.vdis_of(vm)[1], type="suspend")
        other = pool.vdis_of(vm)[1]
        assert refusal(client, "VDI.enable_cbt", other) == ["VDI_INCOMPATIBLE_TYPE", other, "suspend"]
        pool.model.update("VDI", other, type="user", on_boot="reset")
        assert refusal(client, "VDI.enable_cbt", other) == ["VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"]

    def test_data_destroy(self, pool: SimPool, client: SimClient, vdi: str, vm: str) -> None:
        not_snapshot = ["OPERATION_NOT_ALLOWED", f"VDI is not a snapshot: {vdi}"]
        assert refusal(client, "VDI.data_destroy", vdi) == not_snapshot
        untracked = client.call("VDI.snapshot", pool.vdis_of(vm)[1])
        assert refusal(client, "VDI.data_destroy", untracked) == ["VDI_NO_CBT_METADATA", untracked]
        assert refusal(client, "VDI.data_destroy", "OpaqueRef:x")[0] == "HANDLE_INVALID"

    def test_a_licence_can_be_missing(self, tmp_path: Path, spec: PoolSpec) -> None:
        options = Options(cbt_licensed=False)
        with SimPool.start(tmp_path, spec=spec, options=options) as pool, SimClient(pool) as client:
            disk = pool.vdis_of(pool.vm_named("guest"))[0]
            assert refusal(client, "VDI.enable_cbt", disk) == ["LICENCE_RESTRICTION", "CBT"]

    def test_tracked_disks_keep_their_boot_mode(self, client: SimClient, pool: SimPool, vdi: str, vm: str) -> None:
        client.call("VM.hard_shutdown", vm)
        assert refusal(client, "VDI.set_on_boot", vdi, "reset") == ["VDI_CBT_ENABLED", vdi]


class TestResets:
    def test_a_crash_costs_the_log_at_the_next_start(
        self, pool: SimPool, client: SimClient, vdi: str, vm: str
    ) -> None:
        first = client.call("VDI.snapshot", vdi)
        pool.crash_vm(vm)
        assert client.call("VDI.get_cbt_enabled", vdi) is True
        assert refusal(client, "VDI.list_changed_blocks", first, vdi)[0] == "SR_BACKEND_FAILURE_459"
        client.call("VM.start", vm, False, False)
        assert client.call("VDI.get_cbt_enabled", vdi) is False
        found = [message["name"] for message in client.call("message.get_all_records").values()]
        assert found == ["VDI_CBT_METADATA_INCONSISTENT"]
        client.call("VDI.enable_cbt", vdi)
        second = client.call("VDI.snapshot", vdi)
        assert refusal(client, "VDI.list_changed_blocks", first, second) == unrelated()

    def test_a_good_shutdown_keeps_the_log(self, pool: SimPool, client: SimClient, vdi: str, vm: str) -> None:
        first = client.call("VDI.snapshot", vdi)
        client.call("VM.hard_shutdown", vm)
        client.call("VM.start", vm, False, False)
        pool.write_disk(vdi, 0, b"x")
        second = client.call("VDI.snapshot", vdi)
        assert grains(client.call("VDI.list_changed_blocks", first, second)) == {0}

    def test_a_snapshot_can_lose_the_log(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        pool.faults.lose_change_log()
        snapshot = client.call("VDI.snapshot", vdi)
        assert not client.call("VDI.get_cbt_enabled", vdi) and not client.call("VDI.get_cbt_enabled", snapshot)
        found = [message["name"] for message in client.call("message.get_all_records").values()]
        assert found == ["VDI_CBT_SNAPSHOT_FAILED"] and pool.faults.unfired() == []

    def test_disabling_cuts_the_chain(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        first = client.call("VDI.snapshot", vdi)
        client.call("VDI.disable_cbt", vdi)
        client.call("VDI.disable_cbt", vdi)
        client.call("VDI.enable_cbt", vdi)
        second = client.call("VDI.snapshot", vdi)
        assert refusal(client, "VDI.list_changed_blocks", first, second) == unrelated()

    def test_copies_and_reverted_disks_are_not_tracked(
        self, pool: SimPool, client: SimClient, vdi: str, vm: str
    ) -> None:
        assert client.call("VDI.get_cbt_enabled", client.call("VDI.clone", vdi)) is False
        snapshot = client.call("VM.snapshot", vm, "s")
        client.call("VM.hard_shutdown", vm)
        client.call("VM.revert", snapshot)
        assert client.call("VDI.get_cbt_enabled", pool.vdis_of(vm)[0]) is False

    def test_logs_survive_a_restart_of_the_pool(self, tmp_path: Path, spec: PoolSpec) -> None:
        with SimPool.start(tmp_path, spec=spec) as pool, SimClient(pool) as client:
            disk = pool.vdis_of(pool.vm_named("guest"))[0]
            client.call("VDI.enable_cbt", disk)
            first = client.call("VDI.snapshot", disk)
            pool.write_disk(disk, MIB, b"x")
            client.call("VDI.data_destroy", first)
        with SimPool.start(tmp_path, spec=spec) as pool, SimClient(pool) as client:
            assert client.call("VDI.get_missing", first) is False
            second = client.call("VDI.snapshot", disk)
            assert grains(client.call("VDI.list_changed_blocks", first, second)) == {16}


@pytest.mark.parametrize("seed", range(6))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    """Snapshots, destructions, collections at random: every list is exactly what was written in between."""
    rng = random.Random(seed)
    spec = PoolSpec(vms=(VmSpec(name="guest", disks=(DiskSpec(size_bytes=8 * MIB),)),))
    with SimPool.start(tmp_path, spec=spec, seed=seed) as pool:
        disk = pool.vdis_of(pool.vm_named("guest"))[0]
        pool.call("VDI.enable_cbt", disk)
        alive: list[tuple[str, int]] = []
        writes: list[tuple[int, int]] = []
        for _ in range(40):
            match rng.choice(["write", "write", "snapshot", "destroy", "data", "gc"]):
                case "write":
                    offset, length = rng.randrange(7 * MIB), rng.randrange(1, 200_000)
                    pool.write_disk(disk, offset, rng.randbytes(length))
                    writes.append((offset, length))
                case "snapshot":
                    try:
                        alive.append((pool.call("VDI.snapshot", disk), len(writes)))
                    except Failure as failure:
                        assert failure.code == "SR_BACKEND_FAILURE_109"
                case "destroy" if alive:
                    pool.call("VDI.destroy", alive.pop(rng.randrange(len(alive)))[0])
                case "data" if alive:
                    pool.call("VDI.data_destroy", rng.choice(alive)[0])
                case "gc":
                    pool.gc()
        for older, (first, start) in enumerate(alive):
            for second, end in alive[older + 1 :]:
                assert grains(pool.call("VDI.list_changed_blocks", first, second)) == touched(*writes[start:end])
