"""Guests and what is known of their disks, against plain arrays and against the VHD trees."""

from __future__ import annotations

import hashlib
import itertools
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.simpool import DiskSpec, NotAttached, PoolSpec, SimPool, VmSpec
from xobackup.simpool.content import CHUNK_BYTES, Content, Seeded, Zeros

SIZE = 300
writes = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 60), st.integers(0, 3)), max_size=25)


@given(writes)
def test_overlaid_writes_read_like_an_array(plan: list[tuple[int, int, int]]) -> None:
    content, array = Content(SIZE), bytearray(SIZE)
    for offset, length, seed in plan:
        length = min(length, SIZE - offset)
        source = Seeded(seed=seed, length=length) if seed else Zeros(length=length)
        content.overlay(offset, source)
        array[offset : offset + length] = source.read(0, length)
    assert content.read(0, SIZE) == bytes(array)
    assert content.read(100, 77) == bytes(array[100:177])
    starts = [(extent.start, extent.end) for extent in content.extents]
    assert starts == sorted(starts)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(starts))


@given(st.integers(0, 3 * CHUNK_BYTES), st.integers(0, 3 * CHUNK_BYTES))
def test_any_part_of_a_seeded_write_is_the_same_as_in_the_whole(offset: int, length: int) -> None:
    source = Seeded(seed=7, length=3 * CHUNK_BYTES + 5)
    assert source.read(offset, length) == source.read(0, source.length)[offset : offset + length]


def test_a_frozen_content_does_not_change() -> None:
    content = Content(SIZE)
    content.overlay(0, Seeded(seed=1, length=10))
    frozen = content.frozen()
    before = frozen.sha256()
    content.overlay(5, Zeros(length=10))
    assert frozen.sha256() == before != content.sha256()


def test_every_byte_is_known_at_every_snapshot(pool: SimPool, seed: int) -> None:
    vm = pool.vm_named("guest")
    work = pool.workload(vm, seed)
    snapshots: list[str] = []
    for _ in range(4):
        work.steps(2)
        snapshots += pool.vdis_of(pool.call("VM.snapshot", vm, "s"))
    for vdi in [*snapshots, *pool.vdis_of(vm)]:
        assert pool.disk_sha256(vdi) == work.expected(vdi)
    first = snapshots[0]
    assert work.expected(first) != work.expected(pool.vdis_of(vm)[0])
    assert work.expected_bytes(first, 1000, 5000) == pool.disk_bytes(first, 1000, 5000)
    assert hashlib.sha256(pool.disk_bytes(first)).hexdigest() == pool.disk_sha256(first)


def test_the_same_seed_writes_the_same(tmp_path: Path, spec: PoolSpec) -> None:
    digests = []
    for number in range(2):
        with SimPool.start(tmp_path / str(number), spec=spec, seed=5) as pool:
            vm = pool.vm_named("guest")
            pool.workload(vm, 9).steps(6)
            digests.append([pool.disk_sha256(vdi) for vdi in pool.vdis_of(vm)] + [pool.model.get("VM", vm)["uuid"]])
    assert digests[0] == digests[1]


def test_a_guest_writes_all_kinds(pool: SimPool) -> None:
    work = pool.workload(pool.vm_named("guest"), 3)
    done = [write for _ in range(12) for write in work.step()]
    assert any(isinstance(write.source, Zeros) for write in done)
    assert any(write.source.length == 3 << 20 for write in done)
    assert len({id(write) for write in done}) < len(done), "something is saved twice"


def test_a_halted_vm_does_not_write(pool: SimPool) -> None:
    with pytest.raises(NotAttached):
        pool.workload(pool.vm_named("idle"), 1).step()


def test_in_the_background_a_snapshot_is_still_exact(pool: SimPool) -> None:
    vm = pool.vm_named("guest")
    with pool.workload(vm, 4).running(0.001) as work:
        snapshots = [vdi for _ in range(5) for vdi in pool.vdis_of(pool.call("VM.snapshot", vm, "s"))]
    for vdi in [*snapshots, *pool.vdis_of(vm)]:
        assert pool.disk_sha256(vdi) == work.expected(vdi)


def test_other_writes_are_known_too(pool: SimPool, rng: random.Random) -> None:
    vdi = pool.vdis_of(pool.vm_named("guest"))[1]
    for _ in range(20):
        data = rng.randbytes(rng.randint(1, 9000))
        pool.write_disk(vdi, rng.randrange((12 << 20) - len(data)), data)
    assert pool.disk_sha256(vdi) == pool.expected_sha256(vdi)


def test_a_destroyed_snapshot_is_still_known_by_its_uuid(pool: SimPool) -> None:
    vdi = pool.vdis_of(pool.vm_named("guest"))[0]
    snapshot = pool.call("VDI.snapshot", vdi)
    uuid, digest = pool.model.get("VDI", snapshot)["uuid"], pool.disk_sha256(snapshot)
    pool.write_disk(vdi, 0, b"later")
    pool.call("VDI.destroy", snapshot)
    assert pool.expected_sha256(uuid) == pool.expected_sha256(snapshot) == digest


def test_imported_content_is_unknown(pool: SimPool) -> None:
    vdi = pool.vdis_of(pool.vm_named("idle"))[0]
    pool.toolstack.content_changed(vdi)
    with pytest.raises(KeyError, match="not known"):
        pool.expected_sha256(vdi)


def test_knowing_much_costs_little_memory(tmp_path: Path) -> None:
    spec = PoolSpec(vms=(VmSpec(name="big", disks=(DiskSpec(size_bytes=200 << 30),)),))
    with SimPool.start(tmp_path, spec=spec) as pool:
        work = pool.workload(pool.vm_named("big"), 1)
        tracemalloc.start()
        for _ in range(20):
            work.step()
            pool.call("VM.snapshot", pool.vm_named("big"), "s")
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert used < 60 << 20
