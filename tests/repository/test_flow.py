"""Runs as an engine makes them: back up, delete, merge, restore; files and directories."""

import gzip
import hashlib
import json

import pytest

from vhd.block import BLOCK_BYTES
from xobackup.clock import FakeClock
from xobackup.repository.errors import DiskNotFound, PointNotFound
from xotest import xo_rules
from xotest.backups import JOB, START_S, VM, Guest, live_uuid, memory_remote
from xotest.pictures import expand


@pytest.fixture(params=[False, True], ids=["files", "directories"])
def guest(request):
    return Guest(FakeClock(START_S), vhd_directory=request.param)


@pytest.fixture
def remote(guest):
    return memory_remote(guest.clock)


def test_a_first_backup_is_full_and_the_next_ones_are_deltas(guest, remote):
    guest.back_up(remote)
    guest.write(0, "-E--")
    guest.back_up(remote)
    assert len(guest.check(remote, litter=False, merges=False)) == 2
    xo_rules.assert_conformant(remote)
    first, second = guest.repository(remote).points(VM).points
    assert [disk.differencing for disk in first.disks] == [False, False]
    assert [disk.differencing for disk in second.disks] == [True, True]
    assert xo_rules.chainable(
        remote,
        VM,
        JOB,
        live_uuid(0),
        guest.bases[0][-1],
        directories=guest.options["vhd_directory"],
    )


def test_retention_merges_the_oldest_into_the_next(guest, remote):
    for letter in "EFGH":
        guest.write(0, f"-{letter}--")
        guest.write(1, f"{letter.lower()}--{letter}")
        guest.back_up(remote, keep=2)
        guest.check(remote, litter=False, merges=False)
    assert len(guest.repository(remote).points(VM).points) == 2
    assert guest.repository(remote).merge_plan(VM).steps == ()
    xo_rules.assert_conformant(remote)
    report = guest.repository(remote).verify(VM)
    assert report.problems == []
    assert report.coverage.compared == report.coverage.blocks == report.coverage.with_digest > 0


def test_a_disk_that_grows_stays_a_chain(guest, remote):
    guest.back_up(remote)
    guest.write(0, "-E--FG")
    guest.back_up(remote)
    guest.write(0, "H-------I")
    guest.back_up(remote)
    assert len(guest.check(remote, litter=False, merges=False)) == 3
    guest.back_up(remote, keep=2)
    guest.check(remote, litter=False, merges=False)
    xo_rules.assert_conformant(remote)
    assert guest.repository(remote).points(VM).points[-1].disks[0].virtual_size == 9 * BLOCK_BYTES


def test_deleting_from_the_middle_and_the_newest(guest, remote):
    points = []
    for letter in "EFGHI":
        guest.write(0, f"-{letter}-{letter}")
        points.append(guest.back_up(remote))
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points([points[1], points[2], points[4]])
        guest.check(remote)
        plan = directory.merge_plan()
        report = directory.merge()
        assert [step.kind for step in report.steps] == [step.kind for step in plan.steps]
        assert report.refusals == []
    assert guest.check(remote, litter=False, merges=False) == [points[0], points[3]]
    assert guest.repository(remote).verify(VM).problems == []
    guest.back_up(remote)
    assert len(guest.check(remote, litter=False, merges=False)) == 3


def test_after_losing_the_base_the_next_is_a_full_in_the_same_directory(guest, remote):
    guest.back_up(remote)
    guest.bases = [[], []]
    guest.write(0, "E---")
    guest.back_up(remote)
    second = guest.repository(remote).points(VM).points[-1]
    assert not any(disk.differencing for disk in second.disks)
    guest.write(0, "-F--")
    guest.back_up(remote, keep=1)
    guest.check(remote, litter=False, merges=False)


def test_all_of_our_private_state_may_be_lost(guest, remote):
    guest.back_up(remote)
    guest.write(0, "-E--")
    guest.back_up(remote)
    remote.delete_tree(".xobackup")
    guest.write(0, "--F-")
    guest.back_up(remote, keep=2)
    guest.check(remote, litter=False, merges=False)
    report = guest.repository(remote).verify(VM)
    assert report.problems == []
    assert 0 < report.coverage.compared < report.coverage.read == report.coverage.blocks


def test_the_raw_bytes_are_those_of_the_guest(guest, remote):
    point = guest.back_up(remote)
    repository = guest.repository(remote)
    chain = repository.open_disk(repository.point(VM, point), live_uuid(1))
    buffer = bytearray(chain.virtual_size_bytes)
    assert chain.read_into(0, memoryview(buffer)) == len(buffer)
    chain.close()
    expected = b"".join(expand(letters) for letters in guest.disks[1])
    assert hashlib.sha256(buffer).digest() == hashlib.sha256(expected).digest()
    assert (
        xo_rules.disk_sha256(remote, f"xo-vm-backups/{VM}/{point}.json", guest.bases[1][0])
        == hashlib.sha256(expected).hexdigest()
    )


def test_what_is_not_there_is_said_by_name(guest, remote):
    point = guest.back_up(remote)
    repository = guest.repository(remote)
    with pytest.raises(PointNotFound, match="20200101T000000Z"):
        repository.point(VM, "20200101T000000Z")
    with pytest.raises(DiskNotFound, match=live_uuid(1)):
        repository.open_disk(repository.point(VM, point), live_uuid(9))
    with guest.repository(remote).lock(VM) as directory, pytest.raises(PointNotFound):
        directory.delete_points(["20200101T000000Z", point])
    assert len(guest.check(remote)) == 1


def test_the_cache_tells_the_truth_after_every_step(guest, remote):
    def cached():
        value = json.loads(gzip.decompress(remote.get(f"xo-vm-backups/{VM}/cache.json.gz")))
        return [key.rsplit("/", 1)[1].removesuffix(".json") for key in value]

    points = [guest.back_up(remote)]
    assert cached() == points
    points.append(guest.back_up(remote))
    assert cached() == points
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points(points[:1])
        assert cached() == points[1:]
        directory.merge()
    assert cached() == points[1:]
    assert guest.repository(remote).clean_plan(VM) == []
