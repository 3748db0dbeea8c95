"""Closing and reopening a pool, in good order and after its process was killed."""

from __future__ import annotations

from pathlib import Path

from xobackup.simpool import PoolSpec, SimPool
from xotest.simclient import SimClient


def test_a_reopened_pool_is_the_same(tmp_path: Path, spec: PoolSpec) -> None:
    with SimPool.start(tmp_path, spec=spec) as pool:
        vm = pool.vm_named("guest")
        pool.workload(vm, 1).steps(3)
        snapshot = pool.call("VM.snapshot", vm, "kept")
        digests = {vdi: pool.disk_sha256(vdi) for one in (vm, snapshot) for vdi in pool.vdis_of(one)}
        records = pool.model.records("VM")
    with SimPool.start(tmp_path, spec=spec) as again, SimClient(again) as client:
        assert again.reopened
        assert client.call("VM.get_all_records") == records
        assert {vdi: again.disk_sha256(vdi) for vdi in digests} == digests
        known = {record["uuid"] for record in again.model.records("VDI").values()}
        new = client.call("VM.snapshot", again.vm_named("guest"), "new")
        assert {again.model.get("VDI", vdi)["uuid"] for vdi in again.vdis_of(new)}.isdisjoint(known)


def test_tokens_of_events_stay_valid(tmp_path: Path) -> None:
    with SimPool.start(tmp_path) as pool, SimClient(pool) as client:
        token = client.call("event.from", ["VM"], "", 0.0)["token"]
    with SimPool.start(tmp_path) as again, SimClient(again) as client:
        client.call("VM.add_tags", again.vm_named("web"), "later")
        found = client.call("event.from", ["VM"], token, 5.0)["events"]
        assert [event["operation"] for event in found] == ["mod"]


def test_control_domains_let_go_and_sessions_end(tmp_path: Path) -> None:
    with SimPool.start(tmp_path) as pool, SimClient(pool) as client:
        session = client.session
        dom0 = pool.toolstack.control_domain(pool.toolstack.master)
        vdi = pool.vdis_of(pool.vm_named("old-test"))[0]
        pool.model.create("VBD", {"VM": dom0, "VDI": vdi, "currently_attached": True, "type": "Disk"})
    with SimPool.start(tmp_path) as again, SimClient(again) as client:
        assert client.call("VM.get_VBDs", dom0) == []
        assert "destroy" not in client.call("VDI.get_allowed_operations", again.vdis_of(again.vm_named("web"))[0])
        assert not again.toolstack.sessions.alive(session)


def test_after_a_kill_the_trees_are_right_and_the_records_follow(tmp_path: Path, spec: PoolSpec) -> None:
    with SimPool.start(tmp_path, spec=spec) as pool:
        vm = pool.vm_named("guest")
        first = pool.call("VM.snapshot", vm, "first")
        pool.workload(vm, 1).steps(2)
        second = pool.call("VM.snapshot", vm, "second")
        pool.save()
        saved = (tmp_path / "database.json").read_bytes()
        disks = pool.vdis_of(first)
        pool.call("VM.destroy", first)
        for vdi in disks:
            pool.call("VDI.destroy", vdi)
        assert pool.gc() != []
        digests = {vdi: pool.disk_sha256(vdi) for vdi in (*pool.vdis_of(vm), *pool.vdis_of(second))}
    (tmp_path / "database.json").write_bytes(saved)  # the last moments were not saved
    with SimPool.start(tmp_path, spec=spec) as again:
        assert {vdi: again.disk_sha256(vdi) for vdi in digests} == digests
        store = again.toolstack.stores[again.default_sr]
        for record in again.model.records("VDI").values():
            if record["SR"] == again.default_sr and not record["missing"]:
                assert record["sm_config"].get("vhd-parent") == store.parent(record["uuid"])
        missing = {ref for ref, record in again.model.records("VDI").items() if record["missing"]}
        assert missing == set(disks)
