"""Trees of VHDs against plain arrays: programs of writes, snapshots, clones, growth and destruction."""

from __future__ import annotations

import random
import uuid as uuids
from collections.abc import Callable
from pathlib import Path

import pytest

from vhd.block import BLOCK_BYTES
from vhd.check import check_file
from vhd.file import VhdFile
from xobackup.clock import FakeClock
from xobackup.simpool.storage.store import DEPTH_MAX, ChainTooLong, SrStore, StorageFull
from xotest.path_file import PathFile

SECTOR = 512


def make_store(directory: Path, physical_size: int = 1 << 40) -> SrStore:
    return SrStore(directory, physical_size=physical_size, clock=FakeClock(), rng=random.Random(1))


class Model:
    """The same disks as arrays, and what each operation of a program does to both."""

    def __init__(self, store: SrStore, rng: random.Random) -> None:
        self.store = store
        self.rng = rng
        self.disks: dict[str, bytearray] = {}
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.count:08d}-0000-4000-8000-000000000000"

    def pick(self) -> str:
        return self.rng.choice(sorted(self.disks))

    def create(self) -> None:
        size = self.rng.randint(1, 4) * BLOCK_BYTES
        name = self.name()
        self.store.create(name, size)
        self.disks[name] = bytearray(size)

    def write(self) -> None:
        name = self.pick()
        size = len(self.disks[name])
        longest = self.rng.choice((1, SECTOR, 4096, BLOCK_BYTES // 3, 2 * BLOCK_BYTES))
        length = self.rng.randint(1, min(longest, size))
        offset = self.rng.randrange(size - length + 1)
        data = bytes(length) if self.rng.randrange(4) == 0 else self.rng.randbytes(length)
        self.store.write(name, offset, data)
        self.disks[name][offset : offset + length] = data

    def snapshot(self) -> None:
        name, new, base = self.pick(), self.name(), self.name()
        self.store.snapshot(name, new, base)
        self.disks[new] = bytearray(self.disks[name])

    def grow(self) -> None:
        name = self.pick()
        more = self.rng.randint(1, 3) * BLOCK_BYTES
        self.store.resize(name, len(self.disks[name]) + more)
        self.disks[name] += bytes(more)

    def destroy(self) -> None:
        if len(self.disks) > 1:
            name = self.pick()
            self.store.destroy(name)
            del self.disks[name]

    def reopen(self) -> None:
        self.store = make_store(self.store.directory)

    def check(self) -> None:
        for name, array in self.disks.items():
            with self.store.disk(name) as disk:
                assert disk.virtual_size_bytes == len(array)
                assert disk.read(0, len(array)) == bytes(array), name


PROGRAMS = {
    "one disk": "create write write write write",
    "snapshot, then write both": "create write snapshot write write write write",
    "snapshots in a row": "create write snapshot write snapshot write snapshot write",
    "snapshot of an empty disk": "create snapshot snapshot write snapshot",
    "snapshot of an empty child": "create write snapshot snapshot snapshot write",
    "destroy and go on": "create write snapshot write destroy write snapshot destroy write",
    "grow, written to before and after": "create write write grow write write",
    "grow above a snapshot": "create write snapshot grow write write snapshot write write",
    "reopened": "create write snapshot write reopen write snapshot reopen write",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_disks_read_back_as_the_arrays_after_every_step(program: str, tmp_path: Path, rng: random.Random) -> None:
    model = Model(make_store(tmp_path), rng)
    for step in program.split():
        getattr(model, step)()
        model.check()


def test_a_long_random_program(tmp_path: Path, rng: random.Random) -> None:
    model = Model(make_store(tmp_path), rng)
    model.create()
    steps = ["create", *["write"] * 8, *["snapshot"] * 3, *["destroy"] * 2, "reopen"]
    for _ in range(80):
        getattr(model, rng.choice(steps))()
    model.check()


def problems_of(store: SrStore, uuid: str) -> list[str]:
    path = store.node(uuid).path
    opened: list[PathFile] = []

    def parent_of(name: str) -> VhdFile | None:
        found = store.directory / Path(name).name
        if not found.exists():
            return None
        opened.append(PathFile(found))
        return VhdFile.open(opened[-1])

    opened.append(PathFile(path))
    try:
        return [str(finding) for finding in check_file(opened[0], parent_of=parent_of, data=True)]
    finally:
        for file in opened:
            file.close()


def test_every_file_of_a_tree_is_a_valid_vhd_for_vhd_util(tmp_path: Path, rng: random.Random) -> None:
    model = Model(make_store(tmp_path), rng)
    for step in [
        "create",
        "write",
        "write",
        "snapshot",
        "write",
        "write",
        "grow",
        "write",
        "snapshot",
        "write",
        "reopen",
        "write",
    ]:
        getattr(model, step)()
    for uuid in model.store.uuids():
        assert problems_of(model.store, uuid) == []


def test_a_snapshot_hides_the_former_file_under_two_empty_children(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("live", 2 * BLOCK_BYTES)
    store.write("live", 0, b"data")
    before = store.node("live").footer.uuid
    assert store.snapshot("live", "snap", "base") == "base"
    assert store.node("base").hidden and store.node("base").footer.uuid == before
    assert sorted(store.children("base")) == ["live", "snap"]
    assert store.node("live").empty and store.node("snap").empty
    assert store.node("live").header.parent_uuid == before


def test_a_disk_without_news_gets_no_second_base(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("live", BLOCK_BYTES)
    store.write("live", 0, b"data")
    store.snapshot("live", "s1", "b1")
    assert store.snapshot("live", "s2", "b2") is None
    assert sorted(store.children("b1")) == ["live", "s1", "s2"]


def test_a_chain_of_thirty_takes_no_snapshot(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("live", BLOCK_BYTES)
    for number in range(DEPTH_MAX - 1):
        store.write("live", number * SECTOR, bytes([number + 1]))
        store.snapshot("live", f"s{number}", f"b{number}")
    store.write("live", 0, b"x")
    assert len(store.chain("live")) == DEPTH_MAX
    with pytest.raises(ChainTooLong):
        store.snapshot("live", "one-too-many", "base")
    assert "one-too-many" not in store and not (tmp_path / "base.vhd").exists()


@pytest.mark.parametrize("snapshotted", [False, True])
def test_growing_past_the_tables_room_moves_the_blocks_in_the_way(snapshotted: bool, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("live", 100 * BLOCK_BYTES)  # a table of one sector
    for index in (0, 50, 99):
        store.write("live", index * BLOCK_BYTES + 700, b"before")
    if snapshotted:
        store.snapshot("live", "snap", "base")
        store.write("live", 50 * BLOCK_BYTES + 703, b"ween")
    store.resize("live", 4000 * BLOCK_BYTES)
    store.write("live", 3999 * BLOCK_BYTES, b"after")
    with store.disk("live") as disk:
        assert disk.read(700, 6) == disk.read(99 * BLOCK_BYTES + 700, 6) == b"before"
        assert disk.read(50 * BLOCK_BYTES + 699, 9) == (b"\0befween\0" if snapshotted else b"\0before\0\0")
        assert disk.read(3999 * BLOCK_BYTES, 6) == b"after\0"
    for uuid in store.uuids():
        assert problems_of(store, uuid) == []


@pytest.mark.parametrize("act", ["create", "write", "snapshot"])
def test_a_full_repository_refuses_and_changes_nothing(act: str, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("live", 4 * BLOCK_BYTES)
    store.write("live", 0, b"fits")
    used = store.physical_size = store.used_bytes
    acts: dict[str, Callable[[], object]] = {
        "create": lambda: store.create("second", 4 * BLOCK_BYTES),
        "write": lambda: store.write("live", 2 * BLOCK_BYTES, b"x"),
        "snapshot": lambda: store.snapshot("live", "snap", "base"),
    }
    with pytest.raises(StorageFull):
        acts[act]()
    assert store.used_bytes == used
    assert store.uuids() == ["live"]
    with store.disk("live") as disk:
        assert disk.read(0, 4) == b"fits"
        assert disk.read(2 * BLOCK_BYTES, 1) == b"\0"


def test_used_bytes_are_the_lengths_of_the_files(tmp_path: Path, rng: random.Random) -> None:
    model = Model(make_store(tmp_path), rng)
    for step in ["create", "write", "snapshot", "write", "write", "grow", "write", "snapshot", "destroy", "write"]:
        getattr(model, step)()
        files = sum(path.stat().st_size for path in tmp_path.glob("*.vhd"))
        assert model.store.used_bytes == files


def test_a_reader_keeps_reading_a_node_that_was_destroyed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("gone", BLOCK_BYTES)
    store.write("gone", 0, b"still here")
    with store.disk("gone") as disk:
        store.destroy("gone")
        assert disk.read(0, 10) == b"still here"
    assert not list(tmp_path.glob("*.vhd"))


def test_a_write_past_the_end_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("live", BLOCK_BYTES)
    with pytest.raises(ValueError, match="past the end"):
        store.write("live", BLOCK_BYTES - 1, b"ab")


def test_a_huge_disk_costs_nothing_until_it_is_written(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.create("huge", 200 << 30)
    store.write("huge", 150 << 30, b"far out")
    store.snapshot("huge", "snap", "base")
    assert sum(path.stat().st_size for path in tmp_path.glob("*.vhd")) < 5 << 20
    with store.disk("snap") as disk:
        assert disk.block_indexes() == [(150 << 30) // BLOCK_BYTES]
        assert disk.read((150 << 30) - 1, 9) == b"\0far out\0"


def test_footer_uuids_are_the_nodes_own(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    name = str(uuids.UUID(int=7, version=4))
    store.create(name, BLOCK_BYTES)
    assert str(store.node(name).footer.uuid) != name
