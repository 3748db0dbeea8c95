"""Slices: a few runs read everything, the oldest first; what they found is remembered and outlives merges."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes import errors
from remotes.faults import Fault, Faults
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock
from xobackup.repository.findings import Severity
from xobackup.repository.repository import Repository
from xobackup.repository.slices import OldestShare, Part, parse_slice, quota_for
from xobackup.repository.verified import NEVER, Verified, read_verified, write_verified
from xobackup.repository.verify import VerifyOptions
from xotest import golden
from xotest.backups import JOB, START_S, VM, Guest, live_uuid, memory_remote
from xotest.rot import flip_bit

DAY_S = 86_400
RECORD = f".xobackup/verified/{VM}/{JOB}/{live_uuid(0)}.xov"


@pytest.fixture
def guest():
    return Guest(FakeClock(START_S), ["ABCDEFGH"], vhd_directory=True)


@pytest.fixture
def remote(guest):
    made = memory_remote(guest.clock)
    guest.back_up(made)
    guest.write(0, "-I-J----")
    guest.back_up(made)
    return made


def verify(guest, remote, text=None, *, after_s=DAY_S):
    guest.clock.advance(after_s)
    slice_ = parse_slice(text) if text else None
    return guest.repository(remote).verify(VM, options=VerifyOptions(slice=slice_, remember=True))


def ages(guest, remote, days=30.0):
    return guest.repository(remote).verified(VM, days=days)


@pytest.mark.parametrize(
    ("text", "slice_"),
    [
        ("2%", OldestShare(fraction=0.02)),
        (" 12.5 % ", OldestShare(fraction=0.125)),
        ("3/30", Part(number=3, count=30)),
    ],
)
def test_what_can_be_asked_for(text, slice_):
    assert parse_slice(text) == slice_


@pytest.mark.parametrize(
    "text", ["", "2", "0%", "101%", "0/5", "6/5", "1/99999", "-1/5", "a/b", "1/2/3", "%", "1e9%"]
)
def test_what_cannot(text):
    with pytest.raises(ValueError, match="expected"):
        parse_slice(text)


@given(st.lists(st.integers(0, 5), max_size=40), st.floats(0.01, 1))
def test_a_quota_takes_the_share_and_the_oldest(found, fraction):
    quota = quota_for(Counter(found), fraction)
    taken = [age for age in found if quota.takes(age)]
    left = list((Counter(found) - Counter(taken)).elements())
    assert len(taken) >= len(found) * fraction - 1e-6 and len(taken) < len(found) * fraction + 1
    assert not taken or not left or max(taken) <= min(left)


def test_parts_read_everything_once(guest, remote):
    read = [verify(guest, remote, f"{part}/3").coverage for part in (1, 2, 3)]
    assert sum(coverage.read for coverage in read) == read[0].blocks == 10
    assert all(coverage.read for coverage in read)


def test_shares_go_round_the_oldest_first_and_the_newest_disk_before_that(guest, remote):
    assert ages(guest, remote).never == 10
    first = verify(guest, remote, "20%")
    assert (first.coverage.read, first.coverage.compared) == (2, 2)
    found = ages(guest, remote)
    assert (found.never, found.recent, found.oldest_s) == (8, 2, None)
    newest = {point.id for point in guest.repository(remote).points(VM).points[-1:]}
    assert len(newest) == 1
    for _ in range(4):
        assert verify(guest, remote, "20%").coverage.read == 2
    found = ages(guest, remote)
    assert (found.never, found.recent) == (0, 10)
    assert found.oldest_s == (int(START_S) + 2 + DAY_S) // 60 * 60
    assert ages(guest, remote, days=2.5).recent == 6
    verify(guest, remote, "20%")
    assert ages(guest, remote).oldest_s == (int(START_S) + 2 + 2 * DAY_S) // 60 * 60


def test_a_merge_keeps_what_was_verified(guest, remote):
    verify(guest, remote)
    assert ages(guest, remote).never == 0
    guest.write(0, "K-------")
    guest.back_up(remote, keep=1)
    found = ages(guest, remote)
    assert (found.blocks, found.never) == (8, 1), "only the new block was never verified"
    assert verify(guest, remote, "1%").coverage.read == 1
    assert ages(guest, remote).never == 0
    entries = Verified.unpack(remote.get(RECORD)).entries()
    assert len(entries) == 8, "what is no more was forgotten"


def test_damage_counts_as_never_verified_and_comes_first(guest, remote):
    verify(guest, remote)
    first = guest.repository(remote).points(VM).points[0].id
    flip_bit(remote, first, 4)
    assert verify(guest, remote).damaged
    assert ages(guest, remote).never == 1
    report = verify(guest, remote, "1%")
    assert report.coverage.read == 1 and report.damaged
    (problem,) = [one for one in report.problems if one.severity is Severity.DAMAGE]
    assert problem.block == 4 and len(problem.points) == 2


def test_a_storage_that_takes_no_writes_is_verified_all_the_same(guest, remote):
    faults = Faults(Fault(error=lambda url, name: errors.ReadOnly(url, name), operation="put", times=9))
    guest.clock.advance(DAY_S)
    report = guest.repository(FaultyRemote(remote, faults)).verify(VM, options=VerifyOptions(remember=True))
    assert report.problems == [] and report.coverage.compared == 10
    assert ages(guest, remote).never == 10


def test_without_being_asked_nothing_is_remembered(guest, remote):
    guest.repository(remote).verify(VM)
    assert ages(guest, remote).never == 10


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1)), unique_by=lambda e: e[:2]
    )
)
def test_a_record_comes_back(entries):
    record = Verified()
    for entry in entries:
        record.note(*entry)
    back = Verified.unpack(record.pack())
    assert back.entries() == sorted(entries)
    assert all(back.when(index, mark) == minutes for index, mark, minutes in entries)
    assert back.when(10, 0) == NEVER


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_an_empty_one(raw):
    assert Verified.unpack(raw).entries() == []


def test_a_damaged_record_is_as_good_as_none(guest, remote):
    verify(guest, remote)
    raw = bytearray(remote.get(RECORD))
    raw[30] ^= 1
    remote.put(RECORD, bytes(raw))
    assert ages(guest, remote).never == 10
    verify(guest, remote, "10%")
    assert ages(guest, remote).never == 9


def test_partial_blocks_of_a_damaged_one_stay_known_as_damage():
    guest = Guest(FakeClock(START_S), ["AB"], vhd_directory=True)
    remote = memory_remote(guest.clock)
    first = guest.back_up(remote)
    guest.write(0, "c-")
    guest.back_up(remote)
    flip_bit(remote, first, 0)
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points([first])
        directory.merge()
    report = guest.repository(remote).verify(VM)
    assert [(one.code, one.block) for one in report.problems] == [("block-digest", 0)], "not made good by the merge"


def test_a_merge_under_way_forgets_nothing():
    world = golden.pristine("interrupted-directory")
    remote = MemoryRemote()
    for path in sorted(world.root.rglob("*")):
        if path.is_file():
            remote.put(str(path.relative_to(world.root)), path.read_bytes())
    clock = FakeClock(START_S)
    repository = Repository(remote, clock=clock)
    lineage = f"vdis/{world.job}/11111111-0000-4000-8000-000000000001"
    kept = Verified([(9, 9, 9)])
    write_verified(remote, world.vm, lineage, kept)
    repository.verify(world.vm, options=VerifyOptions(remember=True))
    assert read_verified(remote, world.vm, lineage).when(9, 9) == 9
