"""What may not be published is refused before anything changes; a failing remote costs only the new point."""

import copy
from dataclasses import replace

import pytest

from remotes.contract import Kind
from remotes.errors import NoSpace, ReadOnly, RemoteError
from remotes.faults import Fault, Faults
from remotes.faulty import FaultyRemote
from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from xobackup.clock import FakeClock
from xobackup.repository.base import BaseRefusal, NoBase
from xobackup.repository.errors import BadMetadata, BadName, LockLost, Refused
from xobackup.repository.layout import timestamp_name
from xobackup.repository.writer import Base
from xotest.backups import JOB, START_S, VM, Guest, draft, live_uuid, memory_remote

ROOT = f"xo-vm-backups/{VM}"
LINEAGE = f"{ROOT}/vdis/{JOB}/{live_uuid(0)}"
SNAPSHOT = "33333333-0000-4000-8000-000000000001"
NOW_MS = int(START_S + 500) * 1000
BUFFER = BlockBuffer()


@pytest.fixture(params=[False, True], ids=["files", "directories"])
def guest(request):
    return Guest(FakeClock(START_S), ["AB-"], vhd_directory=request.param)


@pytest.fixture
def remote(guest):
    remote = memory_remote(guest.clock)
    guest.back_up(remote)
    return remote


@pytest.fixture
def directory(guest, remote):
    with guest.repository(remote).lock(VM) as directory:
        yield directory


def tree_of(remote, path=""):
    found = {}
    for entry in remote.list(path):
        name = f"{path}/{entry.name}" if path else entry.name
        if entry.kind is Kind.DIRECTORY:
            found[name] = None
            found |= tree_of(remote, name)
        else:
            found[name] = remote.get(name)
    return found


def write(directory, *, base="tip", timestamp_ms=NOW_MS, snapshot=SNAPSHOT, size=3 * BLOCK_BYTES):
    if base == "tip":
        base = directory.find_base(JOB, live_uuid(0), [directory.tip(JOB, live_uuid(0)).snapshot_uuid])
        assert isinstance(base, Base)
    writer = directory.begin_disk(
        JOB, live_uuid(0), timestamp_ms=timestamp_ms, snapshot_uuid=snapshot, virtual_size_bytes=size, base=base
    )
    BUFFER.data[:] = b"\x11" * BLOCK_BYTES
    writer.write_block(Block(1, None, BUFFER))
    return writer.finish()


def drafted(result, **changes):
    value = copy.deepcopy(dict(draft(NOW_MS, [SNAPSHOT], [result.path], [3])))
    value.update(changes)
    return value


def test_until_it_is_published_nothing_but_a_part_is_there(guest, remote, directory):
    before = set(tree_of(remote))
    result = write(directory)
    new = [name for name in set(tree_of(remote)) - before if not name.startswith(".xobackup")]
    assert new and all("/." in name and ".part" in name for name in new)
    assert [point.id for point in guest.repository(remote).points(VM).points] == list(guest.expected)
    assert (result.differencing, result.uuid, result.virtual_size_bytes) == (True, SNAPSHOT, 3 * BLOCK_BYTES)
    point = directory.publish(drafted(result))
    assert point.size == result.size
    assert point.disks[0].path == result.path


def test_an_aborted_disk_leaves_nothing(remote, directory):
    before = tree_of(remote)
    writer = directory.begin_disk(
        JOB, live_uuid(0), timestamp_ms=NOW_MS, snapshot_uuid=SNAPSHOT, virtual_size_bytes=BLOCK_BYTES, base=None
    )
    writer.write_block(Block(0, None, BUFFER))
    writer.abort()
    assert tree_of(remote) == before
    writer = directory.begin_disk(
        JOB, live_uuid(0), timestamp_ms=NOW_MS, snapshot_uuid=SNAPSHOT, virtual_size_bytes=BLOCK_BYTES, base=None
    )
    writer.finish()
    writer.abort()
    assert tree_of(remote) == before


def test_a_published_disk_is_not_taken_back(guest, remote, directory):
    writer = directory.begin_disk(
        JOB, live_uuid(0), timestamp_ms=NOW_MS, snapshot_uuid=SNAPSHOT, virtual_size_bytes=BLOCK_BYTES, base=None
    )
    result = writer.finish()
    directory.publish(drafted(result) | {"vdis": draft(NOW_MS, [SNAPSHOT], [result.path], [1])["vdis"]})
    before = tree_of(remote)
    writer.abort()
    assert tree_of(remote) == before


def test_a_store_that_cannot_rename_gets_the_objects_at_once():
    guest = Guest(FakeClock(START_S), ["AB-"])
    plain = memory_remote(guest.clock)

    class Store(type(plain)):
        capabilities = replace(plain.capabilities, random_access=False, atomic_rename=False)

    store = Store(clock=guest.clock)
    guest.back_up(store)
    guest.write(0, "-C-")
    guest.back_up(store)
    guest.check(store, litter=False, merges=False)
    with guest.repository(store).lock(VM) as directory:
        writer = directory.begin_disk(
            JOB, live_uuid(0), timestamp_ms=NOW_MS, snapshot_uuid=SNAPSHOT, virtual_size_bytes=BLOCK_BYTES, base=None
        )
        writer.write_block(Block(0, None, BUFFER))
        assert len(store.list(f"{LINEAGE}/data")) == 3
        writer.abort()
        assert len(store.list(f"{LINEAGE}/data")) == 2
    guest.back_up(store, keep=1)
    guest.check(store, litter=False, merges=False)


def test_a_second_point_in_the_same_second_is_refused(guest, remote, directory):
    result = write(directory)
    directory.publish(drafted(result))
    before = tree_of(remote)
    with pytest.raises(Refused) as caught:
        write(directory, timestamp_ms=NOW_MS + 999)
    assert caught.value.code == "same-second"
    with pytest.raises(Refused) as caught:
        directory.publish(drafted(result))
    assert caught.value.code == "same-second"
    assert tree_of(remote) == before


def test_a_name_before_the_newest_is_refused(directory, guest):
    with pytest.raises(Refused) as caught:
        write(directory, timestamp_ms=int(START_S - 1000) * 1000)
    assert caught.value.code == "not-newest"
    assert "clock" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda value: value.update(timestamp=NOW_MS + 5000), BadMetadata),
        (lambda value: value.update(jobId="99999999-0000-4000-8000-000000000001"), BadMetadata),
        (lambda value: value.update(vhds={}), BadMetadata),
        (lambda value: value.update(vhds=None), BadMetadata),
        (lambda value: value["vhds"].update(other=next(iter(value["vhds"].values()))), BadMetadata),
        (lambda value: value["vhds"].update(dict.fromkeys(value["vhds"], "../../etc/passwd")), BadName),
        (lambda value: value["vhds"].update(dict.fromkeys(value["vhds"], f"../{VM}/x.vhd")), BadName),
        (lambda value: value["vdis"].clear(), BadMetadata),
        (lambda value: next(iter(value["vdis"].values())).update(uuid="no uuid"), BadName),
        (
            lambda value: next(iter(value["vdis"].values())).update(uuid="33333333-0000-4000-8000-00000000000f"),
            Refused,
        ),
        (lambda value: value.pop("vm"), BadMetadata),
        (lambda value: value.update(secret="x"), BadMetadata),
        (lambda value: value["vm"].update(number=float("inf")), BadMetadata),
    ],
)
def test_what_nobody_could_restore_is_refused_before_anything_changes(remote, directory, change, error):
    value = drafted(write(directory))
    change(value)
    before = tree_of(remote)
    with pytest.raises(error):
        directory.publish(value)
    assert tree_of(remote) == before


def test_a_disk_that_was_never_finished_is_refused(remote, directory):
    value = drafted(write(directory))
    ref, path = next(iter(value["vhds"].items()))
    other = live_uuid(5)
    value["vhds"] = {ref: path.replace(live_uuid(0), other)}
    with pytest.raises(Refused) as caught:
        directory.publish(value)
    assert caught.value.code == "disk-missing"


def test_a_part_cut_off_is_refused(remote, directory, guest):
    value = drafted(write(directory))
    part = next(e for e in remote.list(LINEAGE) if e.name.endswith(".part"))
    if part.kind is Kind.FILE:
        file = remote.update(f"{LINEAGE}/{part.name}")
        file.truncate(part.size_bytes - 512)
        file.close()
    else:
        remote.put(f"{LINEAGE}/{part.name}/bat", b"no")
    with pytest.raises(Refused) as caught:
        directory.publish(value)
    assert caught.value.code == "disk-broken"
    assert len(directory.points().points) == 1


def test_a_fork_is_refused(directory):
    base = directory.find_base(JOB, live_uuid(0), [directory.tip(JOB, live_uuid(0)).snapshot_uuid])
    directory.publish(drafted(write(directory)))
    found = directory.find_base(JOB, live_uuid(0), [base.snapshot_uuid])
    assert isinstance(found, BaseRefusal) and found.code is NoBase.NOT_TIP
    later = NOW_MS + 2000
    other = "33333333-0000-4000-8000-000000000002"
    result = write(directory, base=base, timestamp_ms=later, snapshot=other)
    value = dict(draft(later, [other], [result.path], [3]))
    with pytest.raises(Refused) as caught:
        directory.publish(value)
    assert caught.value.code == "fork"


def test_a_uuid_that_xen_orchestra_cannot_read_is_never_written(directory):
    for bad in ("", "zz", "33333333-0000-0000-0000-000000000001"):
        with pytest.raises(BadName):
            write(directory, base=None, snapshot=bad)


def test_a_lost_lock_publishes_nothing(remote, directory):
    value = drafted(write(directory))
    before = tree_of(remote)
    directory.lock._lost = "a test took it"
    for step in (
        lambda: directory.publish(value),
        lambda: directory.delete_points([directory.points().points[0].id]),
        lambda: write(directory, timestamp_ms=NOW_MS + 5000),
    ):
        with pytest.raises(LockLost):
            step()
    assert tree_of(remote) == before
    directory.lock._lost = None


@pytest.mark.parametrize("error", [NoSpace, ReadOnly])
def test_a_full_or_read_only_remote_in_the_middle_of_a_disk(guest, remote, error):
    before = {
        name: data
        for name, data in tree_of(remote).items()
        if not name.startswith((".xobackup/locks", ".xobackup/leases"))
    }
    faults = Faults(
        Fault(
            error=error,
            operation="write_at" if not guest.options["vhd_directory"] else "put",
            name=f"{LINEAGE}/*",
            times=None,
        )
    )
    faulty = FaultyRemote(remote, faults)
    with guest.repository(faulty).lock(VM) as directory:
        writer = directory.begin_disk(
            JOB, live_uuid(0), timestamp_ms=NOW_MS, snapshot_uuid=SNAPSHOT, virtual_size_bytes=BLOCK_BYTES, base=None
        )
        with pytest.raises(error):
            writer.write_block(Block(0, None, BUFFER))
        writer.abort()
    after = {
        name: data
        for name, data in tree_of(remote).items()
        if not name.startswith((".xobackup/locks", ".xobackup/leases"))
    }
    assert after == before
    guest.check(remote, litter=False, merges=False)


def test_the_whole_storage_full(guest):
    small = memory_remote(guest.clock, capacity_bytes=7 * BLOCK_BYTES)
    guest.back_up(small)
    guest.write(0, "EFG")
    if guest.options["vhd_directory"]:
        small._capacity_bytes = 1 << 16
    with pytest.raises(RemoteError):
        for _ in range(9):
            guest.write(0, "HIJ")
            guest.back_up(small)
    assert guest.check(small)
    small._capacity_bytes = None
    guest.bases[0] = guest.bases[0][:0]
    guest.back_up(small)
    guest.check(small, litter=False, merges=False)


def test_a_base_that_cannot_be_continued_says_why(guest, remote, directory):
    tip = directory.tip(JOB, live_uuid(0))
    assert (tip.problem, tip.known, tip.name) == ("", True, directory.points().points[0].disks[0].path.split("/")[-1])
    found = directory.find_base(JOB, live_uuid(0), [tip.snapshot_uuid], virtual_size_bytes=BLOCK_BYTES)
    assert found.code is NoBase.SHRUNK
    found = directory.find_base(JOB, live_uuid(0), ["44444444-0000-4000-8000-000000000001", "rubbish"])
    assert found.code is NoBase.NOT_FOUND and tip.snapshot_uuid in found.reason
    assert directory.find_base(JOB, live_uuid(7), [tip.snapshot_uuid]).code is NoBase.EMPTY
    assert directory.tip(JOB, live_uuid(7)).snapshot_uuid == ""
    huge = directory.find_base(JOB, live_uuid(0), [tip.snapshot_uuid], virtual_size_bytes=1 << 41)
    if guest.options["vhd_directory"]:
        assert huge.code is NoBase.GROWN_PAST_TABLE
        assert tip.size_max_bytes >= 8 << 30
    else:
        assert isinstance(huge, BaseRefusal), "no file holds 2 TiB"
        assert huge.code is NoBase.GROWN_PAST_TABLE and tip.size_max_bytes == 2040 << 30
        large = directory.find_base(JOB, live_uuid(0), [tip.snapshot_uuid], virtual_size_bytes=2040 << 30)
        assert isinstance(large, Base)
    other = Guest(guest.clock, ["A"], vhd_directory=not guest.options["vhd_directory"])
    directory.lock.release()
    with other.repository(remote).lock(VM) as switched:
        assert switched.find_base(JOB, live_uuid(0), [tip.snapshot_uuid]).code is NoBase.OTHER_KIND
        assert "set to VHD" in switched.tip(JOB, live_uuid(0)).problem


def test_an_unpublished_leftover_is_no_base(guest, remote, directory):
    result = write(directory)
    name = result.path.rsplit("/", 1)[1]
    if guest.options["vhd_directory"]:
        data = f"data/{timestamp_name(NOW_MS)}.vhd"
        remote.rename(f"{LINEAGE}/.{name}.part", f"{LINEAGE}/{data}")
        remote.put(f"{LINEAGE}/{name}", data.encode())
    else:
        remote.rename(f"{LINEAGE}/.{name}.part", f"{LINEAGE}/{name}")
    assert directory.find_base(JOB, live_uuid(0), [SNAPSHOT]).code is NoBase.UNPUBLISHED
    assert directory.tip(JOB, live_uuid(0)).code is NoBase.NOT_TIP
    assert [step.kind for step in directory.merge().steps] == ["delete"]
    assert directory.tip(JOB, live_uuid(0)).problem == ""


def test_codecs_may_not_be_mixed_but_a_chain_keeps_its_own():
    guest = Guest(FakeClock(START_S), ["AB-"], vhd_directory=True, codec="gzip")
    remote = memory_remote(guest.clock)
    guest.back_up(remote)
    guest.options["codec"] = "brotli"
    guest.write(0, "C--")
    guest.back_up(remote)
    filters = {
        remote.get(f"{LINEAGE}/data/{entry.name}/chunk-filters.json") for entry in remote.list(f"{LINEAGE}/data")
    }
    assert filters == {b'["gzip"]'}
    guest.write(0, "-C-")
    guest.back_up(remote, keep=1)
    guest.check(remote)
