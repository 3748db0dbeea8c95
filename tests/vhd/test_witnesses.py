"""What we write, before readers that are not ours: qemu-img, and vhd-util's rules as written down elsewhere.

Readers contradict each other over the size of a disk: qemu-img trusts the geometry of most creators, vhd-util
refuses a geometry beyond the size, and both together leave one combination (:func:`test_only_this_creator_...`).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vhd.block import BLOCK_BYTES, Block, BlockBuffer, BufferPool
from vhd.check import check_file
from vhd.emit import VhdEmitter
from vhd.file import ParentLink, VhdFile, VhdFileUpdater, VhdFileWriter
from vhd.footer import DiskType, new_footer
from vhd.geometry import Geometry, geometry_of, xo_geometry
from vhd.stream import VhdStream
from xotest.foreign import QEMU_RAW_SHA256, foreign
from xotest.golden import pristine
from xotest.layouts import STYLES, Style, lay_out
from xotest.memory_file import MemoryFile
from xotest.pictures import draw, expand, flatten, letters_drawn, picture_of, raw_of, uuid_of, write_picture
from xotest.programs import need
from xotest.xo_rules.vhd_util import vhd_util_check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vhd.storage import Buffer

MIB, GIB = 1 << 20, 1 << 30
NOW_VHD = 848_000_000
NOW_UNIX = NOW_VHD + 946_684_800
PARENT = ParentLink(name="20260104T030000Z.vhd", uuid=uuid_of(9), timestamp=5)
SIZES = [2 * MIB, 15_000_576, 64 * MIB, 100 * MIB, 8 * GIB, 127 * GIB, 2040 * GIB]


class DiskFile(MemoryFile):
    """A real file, sparse, with the same face."""

    def __init__(self, path: Path) -> None:
        super().__init__(name=path.name)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return os.preadv(self._fd, [buffer], offset)

    def write_at(self, offset: int, data: Buffer) -> None:
        assert os.pwrite(self._fd, data, offset) == len(data)

    def close(self) -> None:
        os.close(self._fd)


def qemu_size(path: Path, driver: str = "vpc") -> int:
    command = [need("qemu-img"), "info", "--output=json", "-f", driver, str(path)]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["virtual-size"])


def qemu_raw(path: Path) -> Path:
    raw = path.with_suffix(".raw")
    subprocess.run([need("qemu-img"), "convert", "-f", "vpc", "-O", "raw", str(path), str(raw)], check=True)
    return raw


def data_ranges(raw: Path) -> list[tuple[int, int]]:
    """Where a sparse file is not a hole."""
    found = []
    with raw.open("rb") as file:
        end = raw.stat().st_size
        at = 0
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole from here on
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at))
    return found


def assert_raw_is(raw: Path, blocks: Mapping[int, bytes], size_bytes: int) -> None:
    """``raw`` holds ``blocks`` (their sectors' letters) and zeros elsewhere."""
    assert raw.stat().st_size == size_bytes
    with raw.open("rb") as file:
        for index, letters in blocks.items():
            file.seek(index * BLOCK_BYTES)
            assert file.read(BLOCK_BYTES) == expand(letters)[: size_bytes - index * BLOCK_BYTES]
        for start, end in data_ranges(raw):
            for index in range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
                if index not in blocks:
                    file.seek(max(start, index * BLOCK_BYTES))
                    assert not file.read(min(end, (index + 1) * BLOCK_BYTES) - file.tell()).strip(b"\0")


def some_blocks(size_bytes: int) -> dict[int, str]:
    """The first, the last, some around the places where a table's sector ends."""
    last = -(-size_bytes // BLOCK_BYTES) - 1
    wanted = {0: "A", 1: "b", 127: "C", 128: "D", last // 2: "e", last: "Z"}
    return {index: character for index, character in wanted.items() if index <= last}


@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("parent", [None, PARENT], ids=["dynamic", "differencing"])
def test_everybody_reads_what_we_write(tmp_path: Path, size_bytes: int, parent: ParentLink | None) -> None:
    path = tmp_path / "disk.vhd"
    file = DiskFile(path)
    kind = DiskType.DYNAMIC if parent is None else DiskType.DIFFERENCING
    footer = new_footer(size_bytes=size_bytes, disk_type=kind, uuid=uuid_of(1), timestamp=NOW_VHD)
    writer = VhdFileWriter.create(file, footer=footer, parent=parent)
    buffer = BlockBuffer()
    blocks = some_blocks(size_bytes)
    for index, character in sorted(blocks.items(), reverse=True):
        writer.write_block(Block(index, draw(character, buffer), buffer))
    length = writer.finish()
    assert length == path.stat().st_size == file.size()
    assert check_file(file, now_vhd_s=NOW_VHD, data=True) == []
    assert vhd_util_check(path, now_s=NOW_UNIX, ignore_parents=True) == []
    assert qemu_size(path) == size_bytes
    assert_raw_is(qemu_raw(path), {i: letters_drawn(c) for i, c in blocks.items()}, size_bytes)
    file.close()


@pytest.mark.parametrize("size_bytes", [15_000_576, 64 * MIB, 100 * MIB, 8 * GIB, 100 * GIB])
def test_only_this_creator_is_exact_for_qemu_and_valid_for_vhd_util(tmp_path: Path, size_bytes: int) -> None:
    """The contradiction: what makes one reader exact makes the other refuse, except with creator ``win ``."""
    path = tmp_path / "disk.vhd"
    file = DiskFile(path)
    base = new_footer(size_bytes=size_bytes, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=NOW_VHD)
    writer = VhdFileWriter.create(file, footer=base)
    end = writer.finish() - 512

    def verdict(creator: bytes, version: int, geometry: Geometry) -> tuple[int, bool]:
        raw = replace(base, creator=creator, creator_version=version, geometry=geometry).pack()
        file.write_at(0, raw)
        file.write_at(end, raw)
        try:
            shown = qemu_size(path)
        except subprocess.CalledProcessError:  # "Page table too small"
            shown = -1
        return shown - size_bytes, vhd_util_check(path, now_s=NOW_UNIX) == []

    chs, capped = geometry_of(size_bytes), Geometry(65535, 16, 255)
    assert verdict(b"win ", 0x00060001, chs) == (0, True)
    short = chs.size_bytes - size_bytes
    assert short < 0
    for creator in (b"caml", b"qemu", b"vbox", b"vpc ", b"xo  ", b"wa\0\0"):
        assert verdict(creator, 1, chs) == (short, True)
    assert verdict(b"qem2", 0x00050003, capped) == (0, False)
    assert verdict(b"tap\0", 0x00010003, chs) == (0, False), "without a batmap"
    shown, valid = verdict(b"xo  ", 0, xo_geometry(size_bytes))
    assert shown != 0
    assert not valid
    file.close()


@pytest.mark.parametrize("picture", ["A", "-b0-Z", "z"])
def test_qemu_reads_what_we_emit(tmp_path: Path, picture: str) -> None:
    path = tmp_path / "stream.vhd"
    emitter = VhdEmitter(VhdFile.open(write_picture(picture)), uuid=uuid_of(2), timestamp=NOW_VHD)
    with path.open("wb") as target:
        for chunk in emitter.chunks(BufferPool(1)):
            target.write(chunk)
    assert path.stat().st_size == emitter.length_bytes
    assert qemu_size(path) == len(picture) * BLOCK_BYTES
    assert qemu_raw(path).read_bytes() == raw_of([picture])
    assert vhd_util_check(path, now_s=NOW_UNIX) == []


def test_qemu_reads_a_disk_that_grew_in_place(tmp_path: Path) -> None:
    path = tmp_path / "grown.vhd"
    file = DiskFile(path)
    writer = VhdFileWriter.create(
        file, footer=new_footer(size_bytes=2 * BLOCK_BYTES, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=0)
    )
    buffer = BlockBuffer()
    for index, character in enumerate("AB"):
        writer.write_block(Block(index, draw(character, buffer), buffer))
    writer.finish()
    updater = VhdFileUpdater.open(file)
    entries = 300_000
    updater.grow(entries)
    updater.append_block(Block(entries - 1, draw("C", buffer), buffer))
    updater.sync()
    updater.write_bat(entries - 1, 1)
    updater.replace_footer(updater.footer.with_size(entries * BLOCK_BYTES))
    updater.trim()
    assert check_file(file, now_vhd_s=NOW_VHD, data=True) == []
    assert vhd_util_check(path, now_s=NOW_UNIX) == []
    assert qemu_size(path) == entries * BLOCK_BYTES
    letters = dict(zip((0, 1, entries - 1), flatten(["ABC"]), strict=True))
    assert_raw_is(qemu_raw(path), letters, entries * BLOCK_BYTES)
    file.close()


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
@pytest.mark.parametrize("force_size", ["on", "off"])
def test_we_read_what_qemu_writes_today(tmp_path: Path, subformat: str, force_size: str) -> None:
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    raw.write_bytes(raw_of(["A-0Z-"]))
    options = f"subformat={subformat},force_size={force_size}"
    convert = [need("qemu-img"), "convert", "-f", "raw", "-O", "vpc", "-o", options, str(raw), str(path)]
    subprocess.run(convert, check=True)
    file = DiskFile(path)
    disk = VhdFile.open(file)
    assert disk.virtual_size_bytes >= 5 * BLOCK_BYTES, "without force_size rounded up to a cylinder"
    picture = picture_of(disk).replace("0", "-")
    assert picture.rstrip("-") == "A--Z"
    allowed = {"footer-geometry"} if force_size == "on" else set()
    assert {finding.code for finding in check_file(file, now_vhd_s=1 << 31)} <= allowed
    file.close()


def test_we_read_qemu_s_output_as_a_stream(tmp_path: Path) -> None:
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    raw.write_bytes(raw_of(["A-CZ"]))
    subprocess.run(
        [need("qemu-img"), "convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", str(raw), str(path)],
        check=True,
    )
    with path.open("rb", buffering=0) as source:
        stream = VhdStream(lambda view: source.readinto(view) or 0, name="qemu")
        stream.begin()
        assert stream.expected_length() == path.stat().st_size
        pool = BufferPool(1)
        seen = {}
        for block in stream.blocks(pool):
            seen[block.index] = bytes(block.buffer.data) == expand(letters_drawn("A-CZ"[block.index]))
            pool.release(block.buffer)
    assert seen == {0: True, 2: True, 3: True}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_our_rendering_of_other_writers_is_what_qemu_reads_too(tmp_path: Path, style: Style) -> None:
    """The layouts the other tests lean on are no fantasy. Forced to the size the footer gives."""
    path = tmp_path / f"{style.name}.vhd"
    path.write_bytes(lay_out("-Ab0C", style).data())
    raw = path.with_suffix(".raw")
    image = f"driver=vpc,force_size_calc=current_size,file.driver=file,file.filename={path}"
    subprocess.run([need("qemu-img"), "convert", "--image-opts", image, "-O", "raw", str(raw)], check=True)
    assert raw.read_bytes() == raw_of(["-Ab0C"])


def test_the_fixture_s_checksum_is_qemu_s_as_well(tmp_path: Path) -> None:
    path = tmp_path / "fixture.vhd"
    path.write_bytes(foreign("qemu-dynamic-64m.vhd").data())
    assert hashlib.sha256(qemu_raw(path).read_bytes()).hexdigest() == QEMU_RAW_SHA256


@pytest.mark.parametrize("name", ["file", "merged-file", "grown-file"])
def test_xen_orchestra_s_own_files_read_check_and_stream(name: str) -> None:
    """Only the complaints that vhd-util has as well; whole as streams; linked by uuid and name."""
    usual = {"footer-timestamp", "footer-geometry", "locator-none"}
    paths = [path for path in sorted(pristine(name).root.rglob("*.vhd")) if not path.name.startswith(".")]
    assert len(paths) >= 5
    for path in paths:
        with path.open("rb", buffering=0) as source:
            file = MemoryFile(source.read(), name=path.name)
            disk = VhdFile.open(file)

            def parent_of(candidate: str, beside: Path = path) -> VhdFile | None:
                sibling = beside.with_name(candidate)
                return VhdFile.open(MemoryFile(sibling.read_bytes(), name=candidate)) if sibling.exists() else None

            found = check_file(file, now_vhd_s=NOW_VHD, parent_of=parent_of, data=True)
            assert {finding.code for finding in found} <= usual
            source.seek(0)
            stream, pool = VhdStream(lambda view, raw=source: raw.readinto(view) or 0, name=path.name), BufferPool(1)
            stream.begin()
            indexes = []
            for block in stream.blocks(pool):
                indexes.append(block.index)
                pool.release(block.buffer)
            assert sorted(indexes) == disk.block_indexes()
            assert stream.expected_length() == path.stat().st_size
