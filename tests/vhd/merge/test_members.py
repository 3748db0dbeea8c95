"""What may not be merged is refused before anything changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES
from vhd.errors import MergeError
from vhd.file import ParentLink
from vhd.footer import DiskType, new_footer
from vhd.lineage import open_chain
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge, resume_merge
from vhd.merge.state import MergeState, state_name
from xotest.pictures import flat_of, flatten, uuid_of, write_picture
from xotest.workspace import CODECS, RemoteWorkspace, write_pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = pytest.mark.parametrize("directory", [False, True], ids=["files", "directories"])


def tree(remote: MemoryRemote, directory: str = "vdi") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in remote.list(directory):
        path = f"{directory}/{entry.name}"
        found.update(tree(remote, path) if entry.kind == "directory" else {path: remote.get(path)})
    return found


def refused(workspace: RemoteWorkspace, chain: Sequence[str], match: str) -> None:
    before = tree(workspace.remote)  # type: ignore[arg-type]
    with pytest.raises(MergeError, match=match):
        apply_merge(workspace, chain, CODECS)
    assert tree(workspace.remote) == before  # type: ignore[arg-type]


def add_file(workspace: RemoteWorkspace, name: str, picture: str, **options: object) -> None:
    write_picture(picture, file=workspace.create(name), **options)  # type: ignore[arg-type]


@KINDS
def test_too_few_repeated_and_missing_disks(directory: bool) -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "B", "C"], directory=directory)
    refused(workspace, names[:1], "at least two different disks")
    refused(workspace, [], "at least two different disks")
    refused(workspace, [names[0], names[0]], "at least two different disks")
    workspace.delete(names[1])
    refused(workspace, names, "is missing")


@KINDS
def test_a_chain_that_skips_a_disk(directory: bool) -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "B", "C"], directory=directory)
    refused(workspace, [names[0], names[2]], "does not build on")
    refused(workspace, [names[1], names[0]], "is no differencing disk")


@KINDS
def test_a_second_child_of_the_root_or_of_an_intermediate(directory: bool) -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "B", "C", "D"], directory=directory)
    apply_merge(workspace, names[:3], CODECS)  # the last one builds on the target: no fork
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "B", "C"], directory=directory)
    add_file(workspace, "fork.vhd", "F", uuid=uuid_of(50), parent=ParentLink(name=names[0], uuid=uuid_of(0)))
    refused(workspace, names[:2], r"fork\.vhd builds on 0")
    workspace.delete("fork.vhd")
    add_file(workspace, "fork.vhd", "F", uuid=uuid_of(50), parent=ParentLink(name=names[1], uuid=uuid_of(1)))
    refused(workspace, names, r"fork\.vhd builds on 1")
    apply_merge(workspace, names[:2], CODECS)


def test_another_disk_that_cannot_be_read_may_be_a_fork() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "B"], directory=False)
    workspace.put("broken.vhd", b"nothing")
    refused(workspace, names, r"cannot tell whether broken\.vhd builds on its chain")
    workspace.move("broken.vhd", ".broken.vhd")
    apply_merge(workspace, names, CODECS)


def test_files_and_directories_do_not_mix() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A"], directory=False)
    add_file(workspace, "x.vhd", "-", uuid=uuid_of(1), parent=ParentLink(name=names[0], uuid=uuid_of(0)))
    others = write_pictures(workspace, ["B"], directory=True)
    refused(workspace, [*names, *others], "mixes VHD files and VHD directories")


def test_a_child_of_another_disk_than_its_uuid_says() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    write_pictures(workspace, ["A"], directory=False)
    add_file(workspace, "1.vhd", "B", uuid=uuid_of(1), parent=ParentLink(name="0.vhd", uuid=uuid_of(77)))
    refused(workspace, ["0.vhd", "1.vhd"], str(uuid_of(77)))
    result = apply_merge(workspace, ["0.vhd", "1.vhd"], CODECS, MergeOptions(check_uuids=False))
    assert result.footer.uuid == uuid_of(1)


def test_a_disk_that_was_made_smaller() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    refused(workspace, write_pictures(workspace, ["ABC", "-B"], directory=False), "was made smaller")


def test_a_fixed_root() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    footer = new_footer(size_bytes=BLOCK_BYTES, disk_type=DiskType.FIXED, uuid=uuid_of(0), timestamp=0)
    workspace.put("0.vhd", bytes(BLOCK_BYTES) + footer.pack())
    add_file(workspace, "1.vhd", "B", uuid=uuid_of(1), parent=ParentLink(name="0.vhd", uuid=uuid_of(0)))
    with pytest.raises(Exception, match="fixed disk"):
        apply_merge(workspace, ["0.vhd", "1.vhd"], CODECS)


@KINDS
def test_a_state_file_that_means_other_disks(directory: bool) -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "B"], directory=directory)
    for root, target in ((5, 1), (0, 5)):
        state = MergeState(root_uuid=uuid_of(root), target_uuid=uuid_of(target), chain=tuple(names))
        workspace.put(state_name(names[0]), state.pack())
        refused(workspace, names, "the state file means a disk of uuid")
    workspace.put(state_name(names[0]), b"{}")
    refused(workspace, names, "does not say what it means")
    workspace.delete(state_name(names[0]))
    with pytest.raises(MergeError, match="no merge into it is under way"):
        resume_merge(workspace, names[0], CODECS)


@KINDS
def test_a_root_that_builds_on_a_kept_disk_stays_differencing(directory: bool) -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    pictures = ["AAAA", "-B--", "--Ca", "b---"]
    names = write_pictures(workspace, pictures, directory=directory)
    result = apply_merge(workspace, names[1:], CODECS)
    assert result.footer.differencing
    chain = open_chain(workspace, names[-1], CODECS)
    assert len(chain.members) == 2
    assert flat_of(chain) == flatten(pictures)
    assert flat_of(open_chain(workspace, names[0], CODECS)) == flatten(pictures[:1])
