"""Images of full backups are written again only from a proven copy, and in one step."""

import pytest

from remotes.encryption.markers import open_xo_encrypted
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock
from xobackup.repository.images.checksum import pack_checksum
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.repair.sources import RepositorySource
from xobackup.repository.repository import Repository
from xobackup.repository.slices import OldestShare
from xobackup.repository.verify import VerifyOptions
from xotest import golden, xo_rules
from xotest.sweep import sweep

WORLD = golden.pristine("full-and-pool")
CLOCK = FakeClock(1_790_000_000)


def filled(remote=None):
    """A remote that holds what Xen Orchestra wrote."""
    made = remote or MemoryRemote(clock=CLOCK)
    for path in sorted(WORLD.root.rglob("*")):
        if path.is_file():
            made.put(str(path.relative_to(WORLD.root)), path.read_bytes())
    return made


def repository(remote):
    return Repository(remote, clock=CLOCK, options=RepositoryOptions(lock_refresh_s=3600.0))


POINT = next(point for point in repository(filled()).points(WORLD.vm).points if point.mode == "full")
IMAGE = f"xo-vm-backups/{WORLD.vm}/{POINT.xva}"


def flip(remote, name=IMAGE):
    raw = bytearray(remote.get(name))
    raw[2000] ^= 1
    remote.put(name, bytes(raw))


def repair(remote, *others):
    sources = [RepositorySource(f"other {number}", other) for number, other in enumerate(others)]
    with repository(remote).lock(WORLD.vm, timeout_s=60) as directory:
        return directory.repair_images(repository(remote).damaged_images(WORLD.vm), sources)


def assert_whole(remote):
    assert repository(remote).damaged_images(WORLD.vm) == []
    assert remote.get(IMAGE) == filled().get(IMAGE)
    xo_rules.assert_nothing(remote)


@pytest.mark.parametrize(
    "damage", [flip, lambda remote: remote.delete(IMAGE), lambda remote: remote.put(IMAGE, b"cut")]
)
def test_an_image_comes_back_from_another_remote(damage):
    remote, other = filled(), filled()
    damage(remote)
    (image,) = repository(remote).damaged_images(WORLD.vm)
    assert image.point.id == POINT.id and image.problem
    report = repair(remote, other)
    assert report.repaired == [(image, f"other 0: {IMAGE}")]
    assert_whole(remote)


def test_a_damaged_copy_is_passed_by():
    remote, bad, good = filled(), filled(), filled()
    flip(remote)
    flip(bad)
    ((_, place),) = repair(remote, bad, good).repaired
    assert place.startswith("other 1: ")
    assert_whole(remote)


def test_nothing_is_touched_without_a_proven_copy():
    remote, bad, another = filled(), filled(), filled()
    flip(remote)
    flip(bad)
    name = f"xo-vm-backups/{WORLD.vm}/{POINT.id}.json"
    another.put(name, another.get(name).replace(b'"jobId":"b', b'"jobId":"c', 1))
    before = remote.get(IMAGE)
    report = repair(remote, bad, another, MemoryRemote())
    assert report.repaired == [] and len(report.without_copy) == 1
    assert remote.get(IMAGE) == before
    assert [entry.name for entry in remote.list(f"xo-vm-backups/{WORLD.vm}") if entry.name.endswith(".tmp")] == []


def test_a_checksum_of_something_else_proves_nothing():
    remote, other = filled(), filled()
    flip(remote)
    remote.put(f"{IMAGE}.checksum", pack_checksum("0" * 32))
    assert repair(remote, other).repaired == []


def test_an_encrypted_image_is_proven_by_the_other_remotes_checksum():
    inner = MemoryRemote()
    remote = open_xo_encrypted(inner, "k" * 32)
    filled(remote)
    flip(inner)
    assert len(repair(remote, filled()).repaired) == 1
    assert remote.get(IMAGE) == filled().get(IMAGE)
    other = filled()
    other.delete(f"{IMAGE}.checksum")
    flip(inner)
    assert repair(remote, other).repaired == []


def test_what_was_just_verified_is_not_read_again():
    remote = filled()
    repository(remote).verify(WORLD.vm, options=VerifyOptions(remember=True, slice=OldestShare(fraction=1.0)))
    flip(remote)
    assert repository(remote).damaged_images(WORLD.vm, trusted_days=1) == []
    assert len(repository(remote).damaged_images(WORLD.vm)) == 1


def test_the_power_may_go_at_any_step():
    remote, other = filled(), filled()
    flip(remote)
    damaged = remote.get(IMAGE)

    def check(remote):
        assert remote.get(IMAGE) in (damaged, other.get(IMAGE))
        assert POINT.id in {point.id for point in repository(remote).points(WORLD.vm).points}

    assert sweep(remote.snapshot, lambda remote: repair(remote, other), check, assert_whole_but_litter) > 4


def assert_whole_but_litter(remote):
    assert repository(remote).damaged_images(WORLD.vm) == []
    with repository(remote).lock(WORLD.vm, timeout_s=60) as directory:
        directory.merge()  # takes back what an interrupted write left
    assert_whole(remote)
