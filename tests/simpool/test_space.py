"""What disks cost on files and on logical volumes, and repositories that are full or take no changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from xobackup.simpool import DiskSpec, Failure, PoolSpec, SimPool, SrSpec, VmSpec
from xobackup.simpool.storage.space import DEFLATED_BYTES, EXTENT_BYTES
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20
THICK = 68 * MIB
"""A logical volume for a disk of 64 MiB with its metadata."""


def pool_on(tmp_path: Path, sr: SrSpec, size: int = 64 * MIB) -> SimPool:
    disk = DiskSpec(size_bytes=size, filled_bytes=2 * MIB, sr=sr.name)
    spec = PoolSpec(srs=(sr, SrSpec(name="other")), vms=(VmSpec(name="guest", disks=(disk,)),))
    return SimPool.start(tmp_path, spec=spec)


def used(pool: SimPool, vdi: str) -> int:
    return int(pool.model.get("VDI", vdi)["physical_utilisation"])


class TestThickVolumes:
    def test_a_live_disk_has_all_its_room_and_a_snapshot_little(self, tmp_path: Path) -> None:
        with pool_on(tmp_path, SrSpec(name="lvm", type="lvm")) as pool:
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            assert used(pool, live) == THICK
            snapshot = pool.call("VDI.snapshot", live)
            base = next(
                ref for ref, record in pool.model.records("VDI").items() if record["name_label"] == "base copy"
            )
            assert used(pool, live) == THICK and used(pool, snapshot) == DEFLATED_BYTES
            assert used(pool, base) % EXTENT_BYTES == 0 and used(pool, base) < 12 * MIB
            config = pool.model.get("VDI", live)["sm_config"]
            assert config["vdi_type"] == "vhd" and config["vhd-parent"] == pool.model.get("VDI", base)["uuid"]
            sr = pool.sr_named("lvm")
            total = sum(used(pool, vdi) for vdi in (live, snapshot, base))
            assert pool.model.get("SR", sr)["physical_utilisation"] == total

    def test_writing_to_a_live_disk_costs_nothing_more(self, tmp_path: Path) -> None:
        with pool_on(tmp_path, SrSpec(name="lvm", type="lvm")) as pool:
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            store = pool.toolstack.stores[pool.sr_named("lvm")]
            before = store.used_bytes
            for block in range(32):
                pool.write_disk(live, block * 2 * MIB, b"x" * 512)
            assert store.used_bytes == before

    def test_a_snapshot_needs_the_whole_disk_once_more(self, tmp_path: Path) -> None:
        with pool_on(tmp_path, SrSpec(name="lvm", type="lvm")) as pool:
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            base = 8 * MIB
            pool.fill_sr(pool.sr_named("lvm"), free_bytes=base + DEFLATED_BYTES - EXTENT_BYTES)
            with pytest.raises(Failure, match="SR_BACKEND_FAILURE_44"):
                pool.call("VDI.snapshot", live)
            pool.fill_sr(pool.sr_named("lvm"), free_bytes=base + DEFLATED_BYTES)
            pool.call("VDI.snapshot", live)

    def test_a_clone_is_writable_and_thick(self, tmp_path: Path) -> None:
        with pool_on(tmp_path, SrSpec(name="lvm", type="lvm")) as pool:
            clone = pool.call("VDI.clone", pool.vdis_of(pool.vm_named("guest"))[0])
            assert used(pool, clone) == THICK

    def test_collecting_gives_the_room_back(self, tmp_path: Path) -> None:
        with pool_on(tmp_path, SrSpec(name="lvm", type="lvm")) as pool:
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            sr = pool.sr_named("lvm")
            before = pool.model.get("SR", sr)["physical_utilisation"]
            pool.call("VDI.destroy", pool.call("VDI.snapshot", live))
            pool.gc(sr)
            assert pool.model.get("SR", sr)["physical_utilisation"] == before

    def test_sums_survive_a_restart(self, tmp_path: Path) -> None:
        with pool_on(tmp_path, SrSpec(name="lvm", type="lvm", foreign_bytes=5 * MIB)) as pool:
            pool.call("VDI.snapshot", pool.vdis_of(pool.vm_named("guest"))[0])
            before = pool.toolstack.stores[pool.sr_named("lvm")].used_bytes
        with SimPool.start(tmp_path, spec=pool.spec) as again:
            assert again.toolstack.stores[again.sr_named("lvm")].used_bytes == before

    def test_a_delta_names_the_volume_of_its_base(self, tmp_path: Path) -> None:
        with pool_on(tmp_path, SrSpec(name="lvm", type="lvm")) as pool, SimClient(pool) as client:
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            base, top = pool.call("VDI.snapshot", live), pool.call("VDI.snapshot", live)
            body = client.get("/export_raw_vdi", vdi=top, base=base, format="vhd").body
            sr, uuid = (pool.model.get("SR", pool.sr_named("lvm"))["uuid"], pool.model.get("VDI", base)["uuid"])
            assert f"/dev/VG_XenStorage-{sr}/VHD-{uuid}".encode("utf-16-be") in body[:2048]


class TestFullAndReadOnly:
    @pytest.mark.parametrize("kind", ["ext", "lvm", "nfs"])
    def test_a_full_repository_refuses_disks_snapshots_and_growth(self, tmp_path: Path, kind: str) -> None:
        with pool_on(tmp_path, SrSpec(name="full", type=kind)) as pool, SimClient(pool) as client:  # type: ignore[arg-type]
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            sr = pool.sr_named("full")
            pool.fill_sr(sr)
            record = client.call("SR.get_record", sr)
            assert record["physical_utilisation"] == record["physical_size"]
            disk = {"SR": sr, "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False}
            for method, params in (
                ("VDI.create", [{**disk, "other_config": {}, "name_label": "x"}]),
                ("VDI.snapshot", [live]),
                ("VDI.clone", [live]),
            ):
                with pytest.raises(RpcFailure) as caught:
                    client.call(method, *params)
                assert caught.value.code == "SR_BACKEND_FAILURE_44"
                assert caught.value.params == ["", "There is insufficient space", ""]

    def test_a_read_only_repository_can_only_be_read(self, tmp_path: Path) -> None:
        with (
            pool_on(tmp_path, SrSpec(name="ro", type="nfs", read_only=True), 4 * MIB) as pool,
            SimClient(pool) as client,
        ):
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            for method in ("VDI.snapshot", "VDI.clone"):
                with pytest.raises(RpcFailure, match="SR_BACKEND_FAILURE_461"):
                    client.call(method, live)
            client.call("VM.hard_shutdown", pool.vm_named("guest"))
            with pytest.raises(RpcFailure, match="SR_BACKEND_FAILURE_461"):
                client.call("VDI.destroy", live)
            assert pool.model.exists("VDI", live)
            answer = client.get("/export_raw_vdi", vdi=live)
            assert answer.body == pool.disk_bytes(live)
            copy = client.call("VDI.copy", live, pool.sr_named("other"))
            assert pool.disk_sha256(copy) == pool.disk_sha256(live)
