"""Disks that Xen Orchestra itself wrote: every one gives its sha256, merges that it left half done included."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.directory import VhdDirectory
from vhd.lineage import open_chain, read_states
from vhd.merge.legacy import header_checksum
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge, resume_merge
from vhd.merge.state import root_of, state_name
from vhd.workspace import is_disk, open_disk
from xobackup.repository.codecs import BrotliCodec
from xotest.golden import Golden, pristine, unpack
from xotest.workspace import RemoteWorkspace

if TYPE_CHECKING:
    from pathlib import Path

    from vhd.block import Disk

CODECS = {"brotli": BrotliCodec()}
WHOLE = ["file", "directory", "odd-size", "merged-file", "merged-directory", "grown-file"]
INTERRUPTED = ["interrupted-file", "interrupted-directory"]


def sha256_of(disk: Disk) -> str:
    digest, buffer = hashlib.sha256(), BlockBuffer()
    size = disk.virtual_size_bytes
    for index in range(-(-size // BLOCK_BYTES)):
        disk.read_block(index, buffer)
        digest.update(buffer.data[: min(BLOCK_BYTES, size - index * BLOCK_BYTES)])
    return digest.hexdigest()


def workspaces(golden: Golden) -> list[RemoteWorkspace]:
    remote = LocalRemote(golden.root)
    found = sorted(path for path in golden.vm_directory.glob("vdis/*/*") if path.is_dir())
    return [RemoteWorkspace(remote, str(path.relative_to(golden.root))) for path in found]


def disks_of(workspace: RemoteWorkspace) -> list[str]:
    return [name for name in workspace.names("") if is_disk(name)]


def check_retained(golden: Golden) -> int:
    """Every disk of a restore point that is there reads as expected; returns how many."""
    expected = {disk.snapshot_uuid: disk for _, disk in golden.disks()}
    found = {}
    for workspace in workspaces(golden):
        for name in disks_of(workspace):
            chain = open_chain(workspace, name, CODECS)
            uuid = str(chain.footer.uuid)
            stem = name.split(".")[0]
            if uuid in expected and (golden.vm_directory / f"{stem}.json").exists():
                assert chain.virtual_size_bytes == expected[uuid].virtual_size_bytes
                assert sha256_of(chain) == expected[uuid].sha256, name
                found[uuid] = name
            chain.close()
    assert found.keys() == expected.keys()
    return len(found)


@pytest.mark.parametrize("name", WHOLE)
def test_every_disk_reads_as_xo_wrote_it(name: str) -> None:
    assert check_retained(pristine(name)) >= 2


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_merge_of_xo_can_be_read_resumed_and_read_again(name: str, tmp_path: Path) -> None:
    golden = unpack(name, tmp_path)
    before = check_retained(golden)
    resumed = 0
    for workspace in workspaces(golden):
        for root in filter(None, map(root_of, workspace.names(""))):
            disks = len(disks_of(workspace))
            result = resume_merge(workspace, root, CODECS)
            assert result.resumed
            assert len(disks_of(workspace)) == disks - 1
            assert root not in workspace.names("")
            resumed += 1
        assert read_states(workspace, CODECS) == []
    assert resumed
    assert check_retained(golden) == before


@pytest.mark.parametrize("name", INTERRUPTED)
@pytest.mark.parametrize("by", ["uuid", "header"])
def test_a_state_file_of_an_older_xo_without_a_chain_is_resumed_too(name: str, by: str, tmp_path: Path) -> None:
    golden = unpack(name, tmp_path)
    before = check_retained(golden)
    for workspace in workspaces(golden):
        for state in read_states(workspace, CODECS):
            child = open_disk(workspace, state.target, CODECS)
            root = open_disk(workspace, state.root, CODECS, trailing_footer=False)
            assert child.header is not None and root.header is not None
            fields = {
                "child": {"header": header_checksum(child.header)},
                "parent": {"header": header_checksum(root.header)},
                "currentBlock": 0,
                "mergedDataSize": 0,
                "step": "mergeBlocks",
            }
            if by == "uuid":
                fields["child"] = {"uuid": str(child.footer.uuid), "header": 0}  # type: ignore[dict-item]
            workspace.put(state_name(state.root), json.dumps(fields).encode())
    assert check_retained(golden) == before
    for workspace in workspaces(golden):
        for root_name in filter(None, map(root_of, workspace.names(""))):
            resume_merge(workspace, root_name, CODECS)
    assert check_retained(golden) == before


@pytest.mark.parametrize("name", [name for name in WHOLE if not name.startswith("merged")])
def test_merging_what_xo_wrote_keeps_every_later_disk(name: str, tmp_path: Path) -> None:
    golden = unpack(name, tmp_path)
    retired = golden.points()[:-2]
    for workspace in workspaces(golden):
        names = disks_of(workspace)
        result = apply_merge(workspace, names[: len(retired) + 1], CODECS, MergeOptions(checkpoint_s=0))
        assert result.name == names[len(retired)]
        assert disks_of(workspace) == names[len(retired) :]
    for point in retired:
        (golden.vm_directory / point).unlink()
    assert check_retained(golden) == 2 * len(workspaces(golden))


def test_what_xo_wrote_has_no_partial_blocks() -> None:
    """The merge of directories moves blocks unread because of this."""
    buffer = BlockBuffer()
    for workspace in workspaces(pristine("directory")):
        for name in disks_of(workspace):
            disk = open_disk(workspace, name, CODECS)
            assert isinstance(disk, VhdDirectory)
            assert disk.block_indexes()
            assert all(disk.read_block(index, buffer) is None for index in disk.block_indexes())


def test_a_missing_block_object_without_a_merge_is_damage_and_said_so(tmp_path: Path) -> None:
    golden = unpack("directory", tmp_path)
    workspace = workspaces(golden)[0]
    name = disks_of(workspace)[0]
    disk = open_disk(workspace, name, CODECS)
    assert isinstance(disk, VhdDirectory)
    index = disk.block_indexes()[0]
    workspace.delete(f"{disk.path}/blocks/0/{index}")
    chain = open_chain(workspace, name, CODECS)
    with pytest.raises(Exception, match="block-missing"):
        chain.read_block(index, BlockBuffer())
