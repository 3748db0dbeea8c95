"""What a delta's blocks may be completed from: only what is proven."""

from contextlib import closing
from uuid import UUID

import pytest

from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from vhd.file import VhdFileWriter
from vhd.footer import DiskType, new_footer
from vhd.layout import ParentLink
from xobackup.repository.base_disk import BaseDisk
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.digests import DigestRecorder
from xobackup.repository.workspace import RemoteWorkspace

VM = "aaaaaaaa-0000-4000-8000-000000000001"
LINEAGE = "vdis/aaaaaaaa-0000-4000-8000-000000000002/aaaaaaaa-0000-4000-8000-000000000003"
ROOT, TIP = "20260101T000000Z.vhd", "20260102T000000Z.vhd"
IDS = {ROOT: UUID("aaaaaaaa-0000-4000-8000-00000000000a"), TIP: UUID("aaaaaaaa-0000-4000-8000-00000000000b")}


class Store:
    """Two disks in memory: ``pictures`` says which letters fill which blocks, ``-`` none."""

    def __init__(self, root: str, tip: str, *, digests: tuple[str, ...] = (ROOT, TIP)) -> None:
        self.remote = MemoryRemote()
        self.workspace = RemoteWorkspace(self.remote, f"xo-vm-backups/{VM}/{LINEAGE}")
        self.remote.make_directory(self.workspace.root)
        self.digests = DigestStore(self.remote, VM, LINEAGE)
        for name, picture in ((ROOT, root), (TIP, tip)):
            self.write(name, picture, with_digests=name in digests)

    def write(self, name: str, picture: str, *, with_digests: bool) -> None:
        parent = ParentLink(name=ROOT, uuid=IDS[ROOT]) if name == TIP else None
        kind = DiskType.DIFFERENCING if parent else DiskType.DYNAMIC
        footer = new_footer(size_bytes=len(picture) * BLOCK_BYTES, disk_type=kind, uuid=IDS[name], timestamp=1)
        recorder = DigestRecorder()
        with closing(self.workspace.create(name)) as file:
            writer = VhdFileWriter.create(file, footer=footer, parent=parent)
            for index, letter in enumerate(picture):
                if letter != "-":
                    buffer = BlockBuffer()
                    buffer.data[:] = letter.encode() * BLOCK_BYTES
                    block = Block(index, None, buffer)
                    writer.write_block(block)
                    recorder.add_block(block)
            writer.finish()
        if with_digests:
            self.digests.put(name, recorder.finish(IDS[name]))

    def open(self, name: str = TIP) -> BaseDisk:
        return BaseDisk.open(self.workspace, name, self.digests)


def read(disk: BaseDisk) -> str:
    """One character for each block: its letter, ``-`` proven zeros, ``?`` unknown, ``!`` known and found wrong."""
    found = ""
    buffer = BlockBuffer()
    for index in range(disk.virtual_size_bytes // BLOCK_BYTES):
        problem = disk.read_block(index, buffer)
        if not disk.knows(index):
            assert problem
            found += "?"
        elif problem:
            found += "!"
        else:
            found += chr(buffer.data[0]) if buffer.data[0] else "-"
    disk.close()
    return found


def test_blocks_come_from_whichever_disk_has_them_and_holes_are_zeros() -> None:
    assert read(Store("AB--", "-b-D").open()) == "Ab-D"
    assert read(Store("AB--", "-b-D").open(ROOT)) == "AB--"


@pytest.mark.parametrize(
    ("digests", "expected"), [((ROOT, TIP), "Ab-D"), ((ROOT,), "A???"), ((TIP,), "?b?D"), ((), "????")]
)
def test_what_has_no_digest_is_not_known(digests: tuple[str, ...], expected: str) -> None:
    assert read(Store("AB--", "-b-D", digests=digests).open()) == expected


def test_damage_is_found() -> None:
    store = Store("AB--", "-b-D")
    disk = store.open()
    member = disk._chain.layer_of(0)
    at = member.block_span(0)[1] + 5
    with closing(store.workspace.update(ROOT)) as file:
        file.write_at(at, b"x")
    assert read(disk) == "!b-D"


def test_a_block_that_fell_out_of_the_table_is_neither_zeros_nor_the_one_below() -> None:
    store = Store("AB--", "-b-D")
    with closing(store.workspace.update(TIP)) as file:
        file.write_at(2048 + 4, b"\xff" * 4)
        file.write_at(2048 + 12, b"\xff" * 4)
    assert read(store.open()) == "A?-?"


def test_digests_of_another_disk_count_for_nothing() -> None:
    store = Store("AB--", "-b-D")
    store.digests.put(TIP, DigestRecorder().finish(IDS[ROOT]))
    assert read(store.open()) == "A???"
