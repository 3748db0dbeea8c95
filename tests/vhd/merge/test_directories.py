"""Merging directories: what is moved unread, other compressions, growth past Xen Orchestra's bug, threads."""

from __future__ import annotations

import pytest

from remotes.errors import NotFound, Unavailable
from remotes.faults import Fault
from remotes.faulty import faulty
from remotes.memory import MemoryRemote
from vhd.alias import write_alias
from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.codec import PLAIN, GzipCodec
from vhd.directory import VhdDirectory
from vhd.errors import MergeError
from vhd.file import ParentLink
from vhd.lineage import open_chain
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge
from xotest.pictures import flat_of, flatten, uuid_of
from xotest.workspace import CODECS, RemoteWorkspace, write_directory, write_pictures


class Counting(RemoteWorkspace):
    """Counts what is done to block objects."""

    def __init__(self, remote: MemoryRemote) -> None:
        super().__init__(remote)
        self.got: list[str] = []
        self.moved: list[str] = []

    def get(self, name: str) -> bytes:
        self.got += [name] if "/blocks/" in name else []
        return super().get(name)

    def move(self, old: str, new: str) -> None:
        self.moved += [old] if "/blocks/" in old else []
        super().move(old, new)


def test_whole_blocks_move_without_being_read() -> None:
    workspace = Counting(MemoryRemote())
    names = write_pictures(workspace, ["AB--", "-CD-", "--EF"], directory=True)
    apply_merge(workspace, names, CODECS)
    assert workspace.got == []
    assert sorted(workspace.moved) == ["data/1.vhd/blocks/0/1", "data/2.vhd/blocks/0/2", "data/2.vhd/blocks/0/3"]


def test_only_partial_blocks_are_read() -> None:
    workspace = Counting(MemoryRemote())
    names = write_pictures(workspace, ["AB--", "-cD-"], directory=True)
    apply_merge(workspace, names, CODECS)
    assert workspace.moved == ["data/1.vhd/blocks/0/2"]
    assert {name.rsplit("/", 1)[1] for name in workspace.got} == {"1"}


@pytest.mark.parametrize(
    ("below", "above"), [(PLAIN, GzipCodec()), (GzipCodec(), PLAIN)], ids=["to-plain", "to-gzip"]
)
def test_another_compression_is_rewritten_in_the_roots(below: GzipCodec, above: GzipCodec) -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    write_pictures(workspace, ["AB--"], directory=True, codec=below)
    link = ParentLink(name="0.alias.vhd", uuid=uuid_of(0))
    write_directory(workspace, "data/1.vhd", "-CdE", uuid=uuid_of(1), parent=link, codec=above)
    write_alias(workspace, "1.alias.vhd", "data/1.vhd")
    apply_merge(workspace, ["0.alias.vhd", "1.alias.vhd"], CODECS)
    merged = open_chain(workspace, "1.alias.vhd", CODECS)
    assert flat_of(merged) == flatten(["AB--", "-CdE"])
    member = merged.members[0]
    assert isinstance(member, VhdDirectory) and member.codec.name == below.name


def test_a_grown_disk_gets_a_table_with_room_before_the_footer_says_so() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    pictures = ["AB", "-CD", "---E"]
    names = write_pictures(workspace, pictures, directory=True, tight=True)
    apply_merge(workspace, names[:2], CODECS)
    root = VhdDirectory.open(workspace, "data/0.vhd", CODECS)
    assert root.header.table_entries >= 4096, "so that Xen Orchestra's own merges have room from now on"
    assert root.footer.current_size_bytes == 3 * BLOCK_BYTES
    assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)


def test_the_result_does_not_depend_on_the_number_of_workers() -> None:
    pictures = ["ABCDEFGHIJ", "aB-cD-eF-g", "-b-C-a-B-c"]
    for workers in (1, 2, 7):
        workspace = RemoteWorkspace(MemoryRemote())
        names = write_pictures(workspace, pictures, directory=True)
        apply_merge(workspace, names, CODECS, MergeOptions(workers_max=workers, checkpoint_s=0))
        assert flat_of(open_chain(workspace, names[-1], CODECS)) == flatten(pictures)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_failing_move_stops_the_merge_which_is_resumed_later(workers: int) -> None:
    remote = MemoryRemote()
    pictures = ["ABCDEFGH", "IJKLMNOP", "Z-------"]
    names = write_pictures(RemoteWorkspace(remote), pictures, directory=True)
    options = MergeOptions(workers_max=workers, checkpoint_s=0)
    with (
        faulty(remote, Fault(operation="rename", skip=5)) as broken,
        pytest.raises(Exception, match="planned fault"),
    ):
        apply_merge(RemoteWorkspace(broken), names[:2], CODECS, options)
    workspace = RemoteWorkspace(remote)
    assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)
    assert apply_merge(workspace, names[:2], CODECS, options).resumed
    assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)


@pytest.mark.parametrize("root", ["A-", "AZ"], ids=["nowhere", "an older one in the root"])
def test_a_block_without_its_object_is_refused_before_anything_changed(root: str) -> None:
    """An older block of the root must not stand in for it."""
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, [root, "-B"], directory=True)
    workspace.delete("data/1.vhd/blocks/0/1")
    before = workspace.names("")
    with pytest.raises(MergeError, match=r"1\.alias\.vhd: block 1 is in the table, but its object is missing"):
        apply_merge(workspace, names, CODECS)
    assert workspace.names("") == before == ["0.alias.vhd", "1.alias.vhd", "data"]


def test_a_block_that_is_lost_while_a_merge_was_interrupted_stops_it_before_anything_is_deleted() -> None:
    remote = MemoryRemote()
    workspace = RemoteWorkspace(remote)
    names = write_pictures(workspace, ["A---", "-BCD"], directory=True)
    with faulty(remote, Fault(operation="rename", skip=1, times=None)) as broken, pytest.raises(Unavailable):
        apply_merge(RemoteWorkspace(broken), names, CODECS, MergeOptions(workers_max=1))
    workspace.delete("data/1.vhd/blocks/0/3")
    with pytest.raises(MergeError, match="block 3 is neither there nor in the root"):
        apply_merge(workspace, names, CODECS)
    assert workspace.exists(names[0]) and workspace.exists(names[1])


class Copies(Counting):
    """A store that cannot rename; ``denied`` is said not to be there when it is to be copied."""

    denied = ""
    moves_by_copy = True

    def copy(self, old: str, new: str) -> None:
        if old == self.denied:
            raise NotFound("", old)
        self.moved.append(old)
        self.put(new, RemoteWorkspace.get(self, old))


def test_where_a_move_is_a_copy_blocks_are_copied_and_go_with_their_directory() -> None:
    workspace = Copies(MemoryRemote())
    pictures = ["AB-", "-CD", "E--"]
    names = write_pictures(workspace, pictures, directory=True)
    apply_merge(workspace, names[:2], CODECS)
    assert workspace.moved == ["data/1.vhd/blocks/0/1", "data/1.vhd/blocks/0/2"] and workspace.got == []
    assert workspace.names("data") == ["0.vhd", "2.vhd"]
    assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)


def test_a_store_that_denies_an_object_it_has_does_not_put_an_old_block_into_a_disk() -> None:
    workspace = Copies(MemoryRemote())
    pictures = ["AB", "-C", "D-"]
    names = write_pictures(workspace, pictures, directory=True)
    workspace.denied = "data/1.vhd/blocks/0/1"
    for problem in ("has vanished since the merge began", "the store says that it cannot be copied"):
        with pytest.raises(MergeError, match=problem):
            apply_merge(workspace, names[:2], CODECS)
        assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)
    workspace.denied = ""
    assert apply_merge(workspace, names[:2], CODECS).resumed
    assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)


def test_a_copy_that_is_not_there_stops_the_merge() -> None:
    class Lies(Copies):
        def copy(self, old: str, new: str) -> None:
            """Says that it did."""

    workspace = Lies(MemoryRemote())
    names = write_pictures(workspace, ["A-", "-B"], directory=True)
    with pytest.raises(MergeError, match="block 1 was copied, but is not there"):
        apply_merge(workspace, names, CODECS)
    assert flat_of(open_chain(workspace, names[1], CODECS)) == flatten(["A-", "-B"])


def test_directories_that_are_named_otherwise_are_cleaned_up_too() -> None:
    """Xen Orchestra has named data directories by uuid."""
    workspace = RemoteWorkspace(MemoryRemote())
    pictures = ["A-", "-B", "C-"]
    names = write_pictures(workspace, pictures, directory=True)
    for number, name in enumerate(names):
        workspace.move(f"data/{number}.vhd", f"data/{uuid_of(40 + number)}.vhd")
        write_alias(workspace, name, f"data/{uuid_of(40 + number)}.vhd")
    write_directory(workspace, "data/unknown.vhd", "Z", uuid=uuid_of(60))
    apply_merge(workspace, names, CODECS)
    assert workspace.names("data") == [f"{uuid_of(40)}.vhd", "unknown.vhd"]
    chain = open_chain(workspace, names[-1], CODECS)
    assert flat_of(chain) == flatten(pictures)
    buffer = BlockBuffer()
    chain.read_block(0, buffer)
    assert bytes(buffer.data[:1]) == b"C"
