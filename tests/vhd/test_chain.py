"""Chains read as one disk, against plain arrays; what holds a chain together, and what does not."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from vhd.chain import Chain
from vhd.errors import ChainError, MissingParent, ParentLoop, ParentMismatch
from vhd.file import ParentLink, VhdFile, VhdFileWriter
from vhd.footer import NO_OFFSET, DiskType, new_footer
from vhd.header import NIL
from xotest.memory_file import MemoryFile
from xotest.pictures import ALPHABET, flat_of, flatten, raw_of, uuid_of, write_chain, write_picture

GIB = 1 << 30


class Folder:
    """Files by name; counts what is read."""

    def __init__(self, *files: MemoryFile) -> None:
        self.files = {file.name: file for file in files}
        self.opened: list[VhdFile] = []

    def open(self, name: str) -> VhdFile | None:
        file = self.files.get(name)
        if file is None:
            return None
        self.opened.append(VhdFile.open(file))
        return self.opened[-1]


def chain_of(pictures: list[str], **options: bool) -> Chain:
    files = write_chain(pictures)
    return Chain.open(Folder(*files), files[-1].name, **options)


PICTURES = st.lists(st.text(alphabet=ALPHABET, min_size=1, max_size=4), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pictures=PICTURES)
def test_every_sector_comes_from_the_topmost_disk_that_has_it(pictures: list[str]) -> None:
    # sizes vary freely here: a disk that is smaller than its parent hides the parent's rest
    expected = [bytearray(4096) for _ in pictures[-1]]
    size = len(pictures[-1])
    for number in range(len(pictures)):
        visible = min(len(picture) for picture in pictures[number:])
        shown = flatten([pictures[number][:visible]])
        drawn = flatten_over(expected[:visible], pictures[number][:visible])
        assert len(shown) == len(drawn)
        expected[:visible] = drawn
    chain = chain_of(pictures)
    assert chain.virtual_size_bytes == size * BLOCK_BYTES
    assert flat_of(chain) == [bytes(block) for block in expected]


def flatten_over(blocks: list[bytearray], picture: str) -> list[bytearray]:
    from vhd.block import runs
    from xotest.pictures import bitmap_drawn, letters_drawn

    for block, character in zip(blocks, picture, strict=True):
        for first, count in runs(bitmap_drawn(character)):
            block[first : first + count] = letters_drawn(character)[first : first + count]
    return blocks


@pytest.mark.parametrize("seed", range(3))
def test_any_offset_and_length_reads_right(seed: int) -> None:
    rng = random.Random(seed)
    pictures = ["Aa-B", "b-c-", "-Ca-A"]
    raw = raw_of(pictures)
    chain = chain_of(pictures)
    edges = [index * BLOCK_BYTES + delta for index in range(6) for delta in (-513, -1, 0, 1, 511)]
    for _ in range(25):
        start = max(0, rng.choice([*edges, rng.randrange(len(raw))]))
        length = rng.choice([0, 1, 511, 512, 4097, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 77])
        buffer = bytearray(b"\xee" * length)
        done = chain.read_into(start, memoryview(buffer))
        assert done == max(0, min(length, len(raw) - start))
        assert buffer[:done] == raw[start : start + done]
        assert buffer[done:] == b"\xee" * (length - done)


def test_a_parent_of_odd_size_gives_zeros_past_its_end() -> None:
    root = write_picture("AB", name="0.vhd", uuid=uuid_of(0), size_bytes=BLOCK_BYTES + 512)
    link = ParentLink(name="0.vhd", uuid=uuid_of(0))
    child = write_picture("--C", name="1.vhd", uuid=uuid_of(1), parent=link)
    buffer = BlockBuffer()
    Chain.open(Folder(root, child), "1.vhd").read_block(1, buffer)
    assert bytes(buffer.data) == b"B" * 512 + bytes(BLOCK_BYTES - 512)


def test_a_whole_block_costs_one_read_however_long_the_chain() -> None:
    files = write_chain(["ABCDEFGH", *["--------"] * 20, "Z-------"])
    reads: list[int] = []
    for file in files:
        original = file.read_into
        file.read_into = lambda offset, view, original=original: (  # type: ignore[method-assign]
            reads.append(len(view)) or original(offset, view)
        )
    chain = Chain.open(Folder(*files), files[-1].name)
    reads.clear()
    buffer = BlockBuffer()
    for index in chain.block_indexes():
        chain.read_block(index, buffer)
    assert reads.count(BLOCK_BYTES + 512) == 8
    assert len(reads) <= 8 + 2  # the first slots: does the block still lie there, should a table have grown?


def test_tables_of_thirty_disks_of_2040_gib_fit_in_little_memory() -> None:
    files = []
    buffer = BlockBuffer()
    for number in range(30):
        file = MemoryFile(name=f"{number}.vhd")
        kind = DiskType.DIFFERENCING if number else DiskType.DYNAMIC
        footer = new_footer(size_bytes=2040 * GIB, disk_type=kind, uuid=uuid_of(number), timestamp=0)
        link = ParentLink(name=f"{number - 1}.vhd", uuid=uuid_of(number - 1)) if number else None
        writer = VhdFileWriter.create(file, footer=footer, parent=link)
        buffer.data[:8] = number.to_bytes(8, "big")
        for index in (number, 1_000_000 + number, 1_044_479):
            writer.write_block(Block(index, None, buffer))
        writer.finish()
        files.append(file)
    tracemalloc.start()
    chain = Chain.open(Folder(*files), "29.vhd")
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20
    assert held < 25 << 20
    assert len(chain.block_indexes()) == 61
    for index, number in ((3, 3), (1_000_007, 7), (1_044_479, 29)):
        chain.read_block(index, buffer)
        assert int.from_bytes(buffer.data[:8], "big") == number


def test_a_fixed_root_is_read() -> None:
    content = bytes(range(256)) * 8192 + b"tail" * 128
    footer = new_footer(size_bytes=len(content), disk_type=DiskType.FIXED, uuid=uuid_of(0), timestamp=0)
    assert footer.data_offset == NO_OFFSET
    root = MemoryFile(content + footer.pack(), name="0.vhd")
    link = ParentLink(name="0.vhd", uuid=uuid_of(0))
    child = write_picture("-a", name="1.vhd", uuid=uuid_of(1), parent=link, size_bytes=2 * BLOCK_BYTES)
    chain = Chain.open(Folder(root, child), "1.vhd")
    buffer = bytearray(BLOCK_BYTES)
    chain.read_into(0, memoryview(buffer))
    assert buffer == content[:BLOCK_BYTES]
    chain.read_into(BLOCK_BYTES + 3 * 512, memoryview(buffer)[:512])  # absent from "a", past the root's end
    assert buffer[:512] == bytes(512)


def test_missing_parents_and_loops_and_strangers_are_told_apart() -> None:
    root, middle, tip = write_chain(["A", "-", "-"])
    with pytest.raises(MissingParent, match=r"1\.vhd: its parent 0\.vhd is missing"):
        Chain.open(Folder(middle, tip), "2.vhd")
    with pytest.raises(ChainError, match="no such disk"):
        Chain.open(Folder(), "2.vhd")
    one = write_picture("-", name="1.vhd", uuid=uuid_of(1), parent=ParentLink(name="2.vhd", uuid=uuid_of(2)))
    with pytest.raises(ParentLoop, match=r"comes back to 2\.vhd"):
        Chain.open(Folder(one, tip), "2.vhd")
    itself = write_picture("-", name="1.vhd", uuid=uuid_of(1), parent=ParentLink(name="1.vhd", uuid=uuid_of(1)))
    with pytest.raises(ParentLoop):
        Chain.open(Folder(itself), "1.vhd")
    stranger = write_picture("B", name="0.vhd", uuid=uuid_of(99))
    with pytest.raises(ParentMismatch, match=str(uuid_of(99))):
        Chain.open(Folder(stranger, middle, tip), "2.vhd")
    assert root.closed is False


def test_a_stranger_is_only_a_warning_when_asked_so_as_xo_restores_by_name() -> None:
    _, middle, tip = write_chain(["A", "-", "-"])
    nil = write_picture("-", name="1.vhd", uuid=uuid_of(1), parent=ParentLink(name="0.vhd", uuid=NIL))
    stranger = write_picture("B", name="0.vhd", uuid=uuid_of(99))
    for folder in (Folder(stranger, middle, tip), Folder(stranger, nil, tip)):
        chain = Chain.open(folder, "2.vhd", check_uuids=False)
        assert [finding.code for finding in chain.warnings] == ["parent-uuid"]
        assert flat_of(chain) == flatten(["B"])


def test_a_parent_name_that_climbs_is_never_opened() -> None:
    child = write_picture("-", name="1.vhd", uuid=uuid_of(1), parent=ParentLink(name="../0.vhd", uuid=uuid_of(0)))
    root = write_picture("A", name="../0.vhd", uuid=uuid_of(0))
    folder = Folder(root, child)
    with pytest.raises(ChainError, match="not one of a file beside it"):
        Chain.open(folder, "1.vhd")
    assert [disk.name for disk in folder.opened] == ["1.vhd"]
    assert child.closed


def test_a_chain_without_end_is_refused() -> None:
    class Endless:
        def __init__(self) -> None:
            file = write_picture("-", name="x", uuid=uuid_of(1), parent=ParentLink(name="p", uuid=uuid_of(1)))
            self.disk = VhdFile.open(file)
            self.count = 0

        def open(self, name: str) -> VhdFile:
            self.count += 1
            assert self.disk.header is not None
            header = replace(self.disk.header, parent_name=f"{self.count}.vhd")
            return VhdFile(
                self.disk.file, self.disk.footer, replace(header, locators=header.locators[1:]), self.disk.bat
            )

    with pytest.raises(ChainError, match="more than 1024 disks"):
        Chain.open(Endless(), "0.vhd")


def test_members_run_from_root_to_tip_and_closing_closes_all() -> None:
    files = write_chain(["A", "-", "B"])
    chain = Chain.open(Folder(*files), "2.vhd")
    assert [member.name for member in chain.members] == ["0.vhd", "1.vhd", "2.vhd"]
    owner = chain.layer_of(0)
    assert owner is not None and owner.name == "2.vhd"
    assert chain.layer_of(77) is None
    chain.close()
    assert all(file.closed for file in files)


class Listening(MemoryFile):
    """A file that notes what it is told will be read."""

    def will_read(self, offset: int, length: int) -> None:
        self.told = (*getattr(self, "told", ()), (offset, length))


def test_a_chain_tells_the_file_that_has_the_block_and_only_that() -> None:
    base, tip = write_chain(["AA", "B-"])
    for file in (base, tip):
        file.__class__ = Listening
    chain = Chain.open(Folder(base, tip), tip.name)
    assert chain.will_read(0)
    assert chain.will_read(1)
    layer = chain.layer_of(1)
    assert isinstance(layer, VhdFile)
    start, data = layer.block_span(1)
    assert getattr(base, "told", ()) == ((start, data - start + BLOCK_BYTES),)
    assert len(getattr(tip, "told", ())) == 1


def test_storage_that_takes_no_hints_says_so() -> None:
    chain = chain_of(["A-"])
    assert not chain.will_read(0)
    assert chain.will_read(1)  # nobody has it: nothing to fetch
