"""Merging files: bases of other writers, tables that grow, what is copied how, who can read the result."""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import cache
from typing import TYPE_CHECKING

import pytest

from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from vhd.block import ALIGN_BYTES, BLOCK_BYTES, SLOT_BYTES, BlockBuffer
from vhd.check import check_file
from vhd.errors import Unsupported
from vhd.file import ParentLink, VhdFile
from vhd.findings import errors_of
from vhd.lineage import open_chain
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge, resume_merge
from vhd.merge.state import root_of
from xotest.layouts import HYPERV, QEMU, XAPI, XEN, XO, Style, lay_out
from xotest.pictures import expand, flat_of, flatten, picture_of, raw_of, uuid_of, write_picture
from xotest.programs import need
from xotest.sweep import sweep
from xotest.workspace import CODECS, RemoteWorkspace, write_pictures
from xotest.xo_rules import vhd_util_check

if TYPE_CHECKING:
    from pathlib import Path

    from remotes.contract import Remote
    from vhd.block import Disk
    from vhd.storage import ReadableFile, WritableFile

LINK = ParentLink(name="0.vhd", uuid=uuid_of(0))
BUFFER = BlockBuffer()


class Recording:
    """A writable file that tells which ranges were copied into it, and what was announced as final."""

    def __init__(self, file: WritableFile, copies: list[tuple[int, int, int]]) -> None:
        self._file = file
        self._copies = copies
        self.name = file.name
        self.size, self.read_into, self.write_at = file.size, file.read_into, file.write_at
        self.truncate, self.written, self.sync, self.close = file.truncate, file.written, file.sync, file.close

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        self._copies.append((source_offset, offset, length))
        self._file.copy_range(source, source_offset, offset, length)


class RecordingWorkspace(RemoteWorkspace):
    def __init__(self, remote: Remote) -> None:
        super().__init__(remote)
        self.copies: list[tuple[int, int, int]] = []

    def update(self, name: str) -> Recording:
        return Recording(super().update(name), self.copies)


def with_base(style: Style, base: str, child: str) -> MemoryRemote:
    remote = MemoryRemote()
    workspace = RemoteWorkspace(remote)
    workspace.put("0.vhd", lay_out(base, style).data())
    write_picture(child, file=workspace.create("1.vhd"), uuid=uuid_of(1), parent=LINK)
    return remote


def test_blocks_between_files_of_ours_are_copied_aligned_so_that_extents_can_be_shared() -> None:
    workspace = RecordingWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["AB--", "-CD-", "---E"], directory=False)
    apply_merge(workspace, names, CODECS)
    assert len(workspace.copies) == 3
    assert all(length == SLOT_BYTES for _, _, length in workspace.copies)
    assert all(not (source | offset) % ALIGN_BYTES for source, offset, _ in workspace.copies)


@pytest.mark.parametrize("style", [XAPI, QEMU, XO, HYPERV], ids=lambda style: style.name)
@pytest.mark.parametrize("child", ["-EF-G", "e-f--H", "gggggg"])
def test_bases_of_other_writers_take_blocks(style: Style, child: str) -> None:
    base = "ABC-D"
    workspace = RecordingWorkspace(with_base(style, base, child))
    if len(child) > len(base):
        assert len(child) == 6
    else:
        child = child.ljust(5, "-")
    apply_merge(workspace, ["0.vhd", "1.vhd"], CODECS)
    chain = open_chain(workspace, "1.vhd", CODECS)
    assert flat_of(chain) == flatten([base, child])
    assert errors_of(check_file(workspace.open("1.vhd"), now_vhd_s=None, parent_of=None)) == []


def test_a_base_with_a_batmap_is_refused_before_anything_changes() -> None:
    workspace = RemoteWorkspace(with_base(XEN, "AB", "-C"))
    before = workspace.get("0.vhd")
    with pytest.raises(Unsupported, match="batmap"):
        apply_merge(workspace, ["0.vhd", "1.vhd"], CODECS)
    assert workspace.get("0.vhd") == before
    assert workspace.names("") == ["0.vhd", "1.vhd"]


def test_what_was_behind_the_end_of_a_base_does_not_appear_when_the_disk_grows() -> None:
    for at in (0, 1):
        workspace = RemoteWorkspace(MemoryRemote())
        sizes = [BLOCK_BYTES + 1024] * (at + 1) + [3 * BLOCK_BYTES]
        pictures = ["AB", "-C", "--D"] if at else ["AB", "--D"]
        names = write_pictures(workspace, pictures, directory=False, sizes=sizes)
        apply_merge(workspace, names, CODECS)
        chain = open_chain(workspace, names[-1], CODECS)
        chain.read_block(1, BUFFER)
        assert bytes(BUFFER.data) == (b"C" if at else b"B") * 1024 + bytes(BLOCK_BYTES - 1024)
        disk = VhdFile.open(workspace.open(names[-1]))
        _, data = disk.block_span(1)
        raw = bytearray(BLOCK_BYTES)
        disk.file.read_into(data, memoryview(raw))
        assert not any(raw[1024:]), "not even in the file: other readers look there"


def content(disk: Disk) -> dict[int, str]:
    found = {}
    for index in disk.block_indexes():
        disk.read_block(index, BUFFER)
        found[index] = hashlib.sha256(BUFFER.data).hexdigest()
    return found


@cache
def digest_of(letter: str) -> str:
    return hashlib.sha256(expand(letter.encode() * 4096)).hexdigest()


def test_a_disk_that_grew_across_a_sector_of_the_table_survives_a_power_cut_anywhere() -> None:
    base = "AB" + "-" * 97 + "C"
    child = "-D" + "-" * 150 + "E" + "-" * 146 + "F"
    later = "G" + "-" * 299
    prepared = with_base(XO, base, child)
    link = ParentLink(name="1.vhd", uuid=uuid_of(1))
    write_picture(later, file=RemoteWorkspace(prepared).create("2.vhd"), uuid=uuid_of(2), parent=link)
    merged = {0: "A", 1: "D", 99: "C", 152: "E", 299: "F"}
    expected = {
        "1.vhd": {index: digest_of(letter) for index, letter in merged.items()},
        "2.vhd": {index: digest_of(letter) for index, letter in (merged | {0: "G"}).items()},
    }

    def run(remote: Remote) -> None:
        workspace = RemoteWorkspace(remote)
        options = MergeOptions(checkpoint_s=0)
        for root in filter(None, map(root_of, workspace.names(""))):
            resume_merge(workspace, root, CODECS, options)
        if workspace.exists("0.vhd"):
            apply_merge(workspace, ["0.vhd", "1.vhd"], CODECS, options)

    def check(remote: Remote) -> None:
        for tip, blocks in expected.items():
            chain = open_chain(RemoteWorkspace(remote), tip, CODECS)
            assert chain.virtual_size_bytes == 300 * BLOCK_BYTES
            assert content(chain) == blocks, tip
            chain.close()

    def finished(remote: Remote) -> None:
        workspace = RemoteWorkspace(remote)
        assert [name for name in workspace.names("") if not name.endswith(".tmp")] == ["1.vhd", "2.vhd"]
        assert errors_of(check_file(workspace.open("1.vhd"), now_vhd_s=None, parent_of=None)) == []

    assert sweep(prepared.snapshot, run, check, finished) > 25


@pytest.mark.parametrize("pictures", [["AB--", "-C-D", "E---"], ["A-b-", "ca-B", "-0a-C"]], ids=["whole", "partial"])
def test_qemu_img_and_vhd_util_agree_with_us_about_the_merged_file(pictures: list[str], tmp_path: Path) -> None:
    program = need("qemu-img")
    remote = LocalRemote(tmp_path)
    workspace = RemoteWorkspace(remote)
    names = write_pictures(workspace, pictures, directory=False)
    apply_merge(workspace, names, CODECS)
    path = tmp_path / "vdi" / names[-1]
    shown = subprocess.run([program, "info", "--output=json", "-f", "vpc", path], check=True, capture_output=True)
    assert json.loads(shown.stdout)["virtual-size"] == len(pictures[-1]) * BLOCK_BYTES
    subprocess.run([program, "convert", "-f", "vpc", "-O", "raw", path, tmp_path / "raw"], check=True)
    assert (tmp_path / "raw").read_bytes() == raw_of(pictures)
    assert vhd_util_check(path.read_bytes()) == []
    remote.close()


def test_nothing_but_the_result_is_left_of_reserved_room() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["AB", "CD"], directory=False)
    length = workspace.open(names[0]).size()
    apply_merge(workspace, names, CODECS)
    assert workspace.open(names[1]).size() == length
    assert picture_of(VhdFile.open(workspace.open(names[1]))) == "CD"
