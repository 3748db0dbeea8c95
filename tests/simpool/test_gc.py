"""The garbage collector against the facts of Xen's storage manager, and against what disks must still show."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from xobackup.simpool import SimPool
from xobackup.simpool.workload import Workload


@pytest.fixture
def guest(pool: SimPool) -> str:
    return pool.vm_named("guest")


def parent_of(pool: SimPool, vdi: str) -> str | None:
    found: str | None = pool.model.get("VDI", vdi)["sm_config"].get("vhd-parent")
    return found


def by_uuid(pool: SimPool, uuid: str | None) -> str:
    assert uuid is not None
    return pool.model.by_uuid("VDI", uuid)


def check_all(pool: SimPool, work: Workload, contents_of: Callable[[list[str]], list[str]] = list) -> None:
    """Records and trees agree, and every managed disk (or those chosen) shows what was written."""
    pool.call("SR.scan", pool.default_sr)  # sizes are brought up to date by a scan, as in reality
    store = pool.toolstack.stores[pool.default_sr]
    records = pool.model.records("VDI")
    mine = {ref: record for ref, record in records.items() if record["SR"] == pool.default_sr}
    assert sorted(record["uuid"] for record in mine.values()) == store.uuids()
    for record in mine.values():
        assert record["sm_config"].get("vhd-parent") == store.parent(record["uuid"])
        assert record["managed"] != store.node(record["uuid"]).hidden
        assert record["physical_utilisation"] == store.node(record["uuid"]).file_bytes
    for ref in contents_of([ref for ref, record in mine.items() if record["managed"]]):
        assert pool.disk_sha256(ref) == work.expected(ref), mine[ref]["name_label"]


def snapshot(pool: SimPool, vm: str) -> str:
    return str(pool.call("VM.snapshot", vm, "snap"))


def remove(pool: SimPool, snapshot_vm: str) -> None:
    vdis = pool.vdis_of(snapshot_vm)
    pool.call("VM.destroy", snapshot_vm)
    for vdi in vdis:
        pool.call("VDI.destroy", vdi)


def test_one_kept_snapshot_is_a_steady_state(pool: SimPool, guest: str) -> None:
    work = pool.workload(guest, 1)
    snap = snapshot(pool, guest)
    assert pool.gc() == []
    live, kept = pool.vdis_of(guest)[0], pool.vdis_of(snap)[0]
    assert parent_of(pool, live) == parent_of(pool, kept)
    check_all(pool, work)


def test_chain_of_two_hidden_nodes_coalesces_into_the_older(pool: SimPool, guest: str) -> None:
    """B1─B2─{L, S2}: once S1 is gone B2 goes into B1, and its children follow."""
    work = pool.workload(guest, 2)
    work.steps(2)
    first = snapshot(pool, guest)
    older = parent_of(pool, pool.vdis_of(guest)[0])
    work.steps(2)
    second = snapshot(pool, guest)
    newer = parent_of(pool, pool.vdis_of(guest)[0])
    assert parent_of(pool, by_uuid(pool, newer)) == older
    remove(pool, first)
    steps = pool.gc()
    assert {(step.kind, step.node, step.into) for step in steps} >= {("coalesce", newer, older)}
    assert parent_of(pool, pool.vdis_of(guest)[0]) == parent_of(pool, pool.vdis_of(second)[0]) == older
    assert newer not in {record["uuid"] for record in pool.model.records("VDI").values()}
    check_all(pool, work)


def test_the_last_snapshot_gone_the_leaf_takes_its_parents_place(pool: SimPool, guest: str) -> None:
    work = pool.workload(guest, 3)
    refs = pool.vdis_of(guest)
    uuids = [pool.model.get("VDI", ref)["uuid"] for ref in refs]
    snap = snapshot(pool, guest)
    work.steps(2)
    remove(pool, snap)
    assert {step.kind for step in pool.gc()} == {"leaf-coalesce"}
    assert [pool.model.get("VDI", ref)["uuid"] for ref in refs] == uuids
    assert all(parent_of(pool, ref) is None for ref in refs)
    check_all(pool, work)
    work.step()
    check_all(pool, work)


def test_garbage_is_deleted_with_its_records(pool: SimPool, guest: str) -> None:
    work = pool.workload(guest, 4)
    work.step()
    clone = pool.call("VDI.clone", pool.vdis_of(guest)[0])
    pool.call("VM.hard_shutdown", guest)
    pool.call("VDI.destroy", clone)
    pool.call("VDI.destroy", pool.vdis_of(guest)[0])
    kinds = [step.kind for step in pool.gc()]
    assert kinds[0] == "garbage"
    check_all(pool, work)


def test_a_live_leaf_with_much_data_is_left_alone_unless_forced(pool: SimPool, guest: str) -> None:
    idle = pool.vm_named("idle")
    big = pool.call("VDI.create", disk_record(pool, 64 << 20))
    pool.call("VBD.create", vbd_record(guest, big, "5"))
    pool.call("VBD.plug", pool.model.get("VDI", big)["VBDs"][0])
    snap = pool.call("VDI.snapshot", big)
    for offset in range(0, 24 << 20, 2 << 20):
        pool.write_disk(big, offset, b"much")
    pool.call("VDI.destroy", snap)
    assert pool.gc() == []
    pool.call("VDI.add_to_other_config", big, "leaf-coalesce", "force")
    assert [step.kind for step in pool.gc()] == ["leaf-coalesce"]
    check_all(pool, pool.workload(idle, 0))


@pytest.mark.parametrize(("owner", "key"), [("SR", "gc"), ("SR", "coalesce"), ("VDI", "leaf-coalesce")])
def test_other_config_stops_it(owner: str, key: str, pool: SimPool, guest: str) -> None:
    snap = snapshot(pool, guest)
    remove(pool, snap)
    targets = [pool.default_sr] if owner == "SR" else pool.vdis_of(guest)
    for ref in targets:
        pool.call(f"{owner}.add_to_other_config", ref, key, "false")
    assert pool.gc() == []
    for ref in targets:
        pool.call(f"{owner}.remove_from_other_config", ref, key)
    assert pool.gc() != []


def test_no_room_to_coalesce_leaves_the_tree_as_it_is(pool: SimPool, guest: str) -> None:
    work = pool.workload(guest, 5)
    snap = snapshot(pool, guest)
    for vdi in pool.vdis_of(guest):
        pool.write_disk(vdi, (8 << 20) - 4096, b"in a block the base has not")
    remove(pool, snap)
    store = pool.toolstack.stores[pool.default_sr]
    store.physical_size = store.used_bytes
    assert pool.gc() == []
    check_all(pool, work)


def test_random_programs_of_backups_keep_every_byte(pool: SimPool, guest: str, rng: random.Random) -> None:
    work = pool.workload(guest, rng.getrandbits(32))
    kept: list[str] = []
    for _ in range(14):
        action = rng.choice(["work", "work", "snapshot", "snapshot", "remove", "gc", "revert"])
        if action == "work":
            work.step()
        elif action == "snapshot":
            kept.append(snapshot(pool, guest))
        elif action == "remove" and kept:
            remove(pool, kept.pop(rng.randrange(len(kept))))
        elif action == "gc":
            pool.gc()
        elif action == "revert" and kept:
            pool.call("VM.hard_shutdown", guest)
            pool.call("VM.revert", rng.choice(kept))
            pool.call("VM.start", guest, False, False)
        check_all(pool, work, lambda refs: rng.sample(refs, 2))
    for one in kept:
        remove(pool, one)
    pool.gc()
    check_all(pool, work)
    assert all(parent_of(pool, vdi) is None for vdi in pool.vdis_of(guest))


def test_a_reader_goes_on_while_its_chain_is_coalesced(pool: SimPool, guest: str) -> None:
    work = pool.workload(guest, 6)
    work.steps(2)
    first = snapshot(pool, guest)
    work.steps(2)
    second = snapshot(pool, guest)
    wanted = pool.vdis_of(second)[0]
    with pool.read_disk(wanted) as disk:
        remove(pool, first)
        assert pool.gc() != []
        assert disk.read(0, disk.virtual_size_bytes) == work.expected_bytes(wanted, 0, disk.virtual_size_bytes)


def disk_record(pool: SimPool, size: int) -> dict[str, object]:
    return {
        "SR": pool.default_sr,
        "virtual_size": size,
        "name_label": "made by a test",
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }


def vbd_record(vm: str, vdi: str, device: str, mode: str = "RW") -> dict[str, object]:
    return {
        "VM": vm,
        "VDI": vdi,
        "userdevice": device,
        "bootable": False,
        "mode": mode,
        "type": "Disk",
        "empty": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }
