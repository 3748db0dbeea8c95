"""Damaged blocks are written again from proven copies, and from nothing else; what was there is kept."""

import pytest

from remotes.encryption.aead import Algorithm
from remotes.encryption.chunked import ChunkedObjects
from remotes.encryption.markers import open_xo_encrypted
from remotes.encryption.remote import EncryptedRemote
from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES, FULL_BITMAP
from xobackup.clock import FakeClock
from xobackup.repository.binding import binding_of
from xobackup.repository.errors import Refused
from xobackup.repository.repair.sources import RepositorySource
from xobackup.repository.repository import Repository
from xobackup.repository.verify import VerifyOptions
from xotest import golden, xo_rules
from xotest.backups import JOB, START_S, VM, Guest, live_uuid, memory_remote
from xotest.rot import flip_bit
from xotest.sweep import sweep

LINEAGE = f"xo-vm-backups/{VM}/vdis/{JOB}/{live_uuid(0)}"
LAYOUTS = pytest.mark.parametrize("vhd_directory", [False, True], ids=["files", "directories"])


class World:
    """The same three restore points on two remotes."""

    def __init__(self, *, vhd_directory, other_directory=True, wrap=lambda remote: remote):
        self.clock = FakeClock(START_S)
        self.guest = Guest(self.clock, ["ABCD"], vhd_directory=vhd_directory)
        self.inner = memory_remote(self.clock)
        self.remote = wrap(self.inner)
        self.other = memory_remote(self.clock)
        twin = Guest(self.clock, ["ABCD"], vhd_directory=other_directory)
        for letter in "EFG":
            for guest, remote in ((self.guest, self.remote), (twin, self.other)):
                guest.back_up(remote)
                guest.write(0, f"-{letter}--")
        self.points = list(self.guest.expected)
        self.sources = [RepositorySource("other", self.other)]

    def repository(self, remote=None):
        return self.guest.repository(remote or self.remote)

    def damage(self, index, point=0, remote=None):
        flip_bit(remote or self.remote, self.points[point], index)

    def repair(self, remote=None, sources=None):
        repository = self.repository(remote)
        found = repository.damages(VM)
        with repository.lock(VM, timeout_s=60) as directory:
            return directory.repair(found.blocks, self.sources if sources is None else sources)


def assert_whole(world, remote=None):
    report = world.repository(remote).verify(VM)
    assert report.problems == [] and report.coverage.compared == report.coverage.blocks
    world.guest.check(remote or world.remote)


@LAYOUTS
@pytest.mark.parametrize("other_directory", [False, True], ids=["from files", "from directories"])
def test_a_damaged_block_comes_back_from_another_remote(vhd_directory, other_directory):
    world = World(vhd_directory=vhd_directory, other_directory=other_directory)
    world.damage(2)
    world.damage(1, point=1)
    found = world.repository().damages(VM)
    assert sorted((block.disk[:16], block.index) for block in found.blocks) == [
        (world.points[0], 2),
        (world.points[1], 1),
    ]
    by_index = {block.index: block for block in found.blocks}
    assert by_index[2].points == tuple(world.points) and by_index[1].points == (world.points[1],)
    report = world.repair()
    assert len(report.repaired) == 2 and all(place.startswith("other: ") for _, place in report.repaired)
    assert_whole(world)
    kept = world.inner.list(f"{report.quarantine}/vdis/{JOB}/{live_uuid(0)}")
    assert kept
    xo_rules.assert_nothing(world.inner)


@LAYOUTS
def test_what_was_replaced_is_kept_as_it_was(vhd_directory):
    world = World(vhd_directory=vhd_directory)
    world.damage(2)
    name = f"{LINEAGE}/data/{world.points[0]}.vhd/blocks/0/2"
    before = world.inner.get(name) if vhd_directory else None
    report = world.repair()
    place = f"{report.quarantine}/vdis/{JOB}/{live_uuid(0)}"
    if vhd_directory:
        assert world.inner.get(f"{place}/data/{world.points[0]}.vhd/blocks/0/2") == before
    else:
        kept = world.inner.get(f"{place}/{world.points[0]}.vhd.block-2")
        assert kept[:512] == FULL_BITMAP and len(kept) == 512 + BLOCK_BYTES


def test_a_missing_object_is_put_back():
    world = World(vhd_directory=True)
    world.inner.delete(f"{LINEAGE}/data/{world.points[0]}.vhd/blocks/0/3")
    assert len(world.repair().repaired) == 1
    assert_whole(world)


@LAYOUTS
def test_another_restore_point_of_the_same_remote_may_have_it(vhd_directory):
    clock = FakeClock(START_S)
    guest = Guest(clock, ["ABCD"], vhd_directory=vhd_directory)
    remote = memory_remote(clock)
    guest.back_up(remote)
    guest.write(0, "--C-")  # written again with the same content: the newer disk has the block too
    guest.back_up(remote)
    flip_bit(remote, next(iter(guest.expected)), 2)
    with guest.repository(remote).lock(VM) as directory:
        blocks = guest.repository(remote).damages(VM).blocks
        report = directory.repair(blocks, [RepositorySource("here", remote)])
    assert len(report.repaired) == 1
    assert guest.repository(remote).verify(VM).problems == []


@LAYOUTS
def test_without_a_proven_copy_nothing_is_touched(vhd_directory):
    world = World(vhd_directory=vhd_directory)
    world.damage(2)
    flip_bit(world.other, min(world.repository(world.other).points(VM).points, key=lambda one: one.id).id, 2)
    before = tree(world.inner)
    report = world.repair()
    assert (report.repaired, len(report.without_copy), report.quarantine) == ([], 1, "")
    assert tree(world.inner) == before


def tree(remote, directory=""):
    found = {}
    for entry in remote.list(directory):
        name = f"{directory}/{entry.name}".lstrip("/")
        found |= tree(remote, name) if str(entry.kind) == "directory" else {name: remote.get(name)}
    return {name: content for name, content in found.items() if "/locks/" not in name and "/leases/" not in name}


def test_a_block_that_is_whole_by_now_is_let_be():
    world = World(vhd_directory=True)
    world.damage(2)
    found = world.repository().damages(VM)
    world.repair()
    before = tree(world.inner)
    with world.repository().lock(VM) as directory:
        report = directory.repair(found.blocks, world.sources)
    assert len(report.whole) == 1 and report.repaired == [] and tree(world.inner) == before


def test_blocks_without_a_digest_are_hopeless():
    world = World(vhd_directory=True)
    world.inner.delete_tree(".xobackup/digests")
    world.inner.delete(f"{LINEAGE}/data/{world.points[0]}.vhd/blocks/0/3")
    found = world.repository().damages(VM)
    assert found.blocks == []
    assert any("no digest would prove a copy" in sentence for sentence in found.hopeless)


def test_an_unfinished_merge_is_left_alone():
    world = World(vhd_directory=True)
    world.inner.put(f"{LINEAGE}/.{world.points[0]}.alias.vhd.merge.json", b"{}")
    world.damage(2)
    found = world.repository().damages(VM)
    assert found.blocks == [] and found.hopeless


def test_a_merge_that_xen_orchestra_did_not_finish_is_left_alone():
    world = golden.pristine("interrupted-directory")
    found = Repository(LocalRemote(world.root), clock=FakeClock(START_S)).damages(world.vm)
    assert found.blocks == [] and all("a merge is not finished" in sentence for sentence in found.hopeless)


def test_what_was_just_verified_is_believed():
    world = World(vhd_directory=True)
    world.damage(2)
    world.repository().verify(VM, options=VerifyOptions(remember=True))
    world.damage(3)  # after the verification
    found = world.repository().damages(VM, trusted_days=1)
    assert [block.index for block in found.blocks] == [2] and found.read == 1
    assert {block.index for block in world.repository().damages(VM).blocks} == {2, 3}


def test_a_storage_that_keeps_nothing_is_named():
    class Stuck:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def put(self, name, data, *, replace=True):
            if "/blocks/" not in name or "quarantine" in name:
                self.inner.put(name, data, replace=replace)

    world = World(vhd_directory=True)
    world.damage(2)
    with pytest.raises(Refused, match="written again and is damaged again"):
        world.repair(Stuck(world.inner))


@pytest.mark.parametrize("mode", ["xo", "xobackup"])
def test_encrypted_blocks_are_set_aside_sealed_and_written_again(mode):
    def wrap(remote):
        if mode == "xo":
            return open_xo_encrypted(remote, "k" * 32)
        return EncryptedRemote(
            remote, ChunkedObjects(b"k" * 32, Algorithm.AES_256_GCM, b"r" * 16, binding=binding_of)
        )

    world = World(vhd_directory=True, wrap=wrap)
    name = f"{LINEAGE}/data/{world.points[0]}.vhd/blocks/0/2"
    raw = bytearray(world.inner.get(name))
    raw[-1] ^= 1
    world.inner.put(name, bytes(raw))
    report = world.repair()
    assert len(report.repaired) == 1
    kept = f"{report.quarantine}/vdis/{JOB}/{live_uuid(0)}/data/{world.points[0]}.vhd/blocks/0/2"
    assert world.inner.get(kept) == bytes(raw)
    assert world.repository().verify(VM).problems == []


@pytest.mark.slow
@LAYOUTS
def test_the_power_may_go_at_any_step(vhd_directory):
    world = World(vhd_directory=vhd_directory)
    world.damage(2)
    world.damage(1, point=1)

    def check(remote):
        listing = world.repository(remote).points(VM)
        assert listing.certain and [point.id for point in listing.points] == world.points
        damaged = {(block.disk[:16], block.index) for block in world.repository(remote).damages(VM).blocks}
        assert damaged <= {(world.points[0], 2), (world.points[1], 1)}
        xo_rules.assert_nothing(remote, allow_litter=True)

    def finished(remote):
        assert_whole(world, remote)

    assert sweep(world.inner.snapshot, world.repair, check, finished, survivors=2) > 6
