"""From what a disk's next backup continues, and why not."""

import pytest

from xobackup.engine.base import Full, RemoteTip, choose_base, plan_routes
from xobackup.xapi.image_format import ImageFormat
from xotest.views import MIB, a_disk, a_job, a_snapshot, uid

JOB = a_job().id


def tip(name: str = "s1", **fields: object) -> RemoteTip:
    return RemoteTip(snapshot_uuid=uid(name), virtual_size_bytes=16 * MIB, known=True, **fields)


def choose(disk, remote_tip: RemoteTip, **fields):
    return choose_base(disk, "nas", remote_tip, job_id=JOB, **fields)


def test_a_delta_continues_from_the_snapshot_that_is_the_remotes_tip() -> None:
    disk = a_disk(snapshots=(a_snapshot("s2", datetime="20260102T00:00:00Z"), a_snapshot("s1")))
    choice = choose(disk, tip("s2"))
    assert choice.base.vdi_uuid == uid("s2") and choice.full is None


def test_what_the_remote_published_was_exported_whatever_the_mark_says() -> None:
    assert choose(a_disk(snapshots=(a_snapshot(exported=False),)), tip()).base is not None


def test_an_older_snapshot_serves_when_it_is_what_the_remote_has() -> None:
    disk = a_disk(snapshots=(a_snapshot("s2", datetime="20260102T00:00:00Z"), a_snapshot("s1")))
    assert choose(disk, tip("s1")).base.vdi_uuid == uid("s1")


@pytest.mark.parametrize(
    ("disk", "remote_tip", "expected"),
    [
        (a_disk(), RemoteTip(), Full.FIRST_RUN),
        (a_disk(), RemoteTip(known=True), Full.REMOTE_EMPTY),
        (a_disk(snapshots=(a_snapshot(),)), RemoteTip(), Full.REMOTE_EMPTY),
        (a_disk(snapshots=(a_snapshot(job_id=uid("else")),)), RemoteTip(), Full.FIRST_RUN),
        (a_disk(snapshots=(a_snapshot(),)), tip(problem="parent of x is missing"), Full.CHAIN_BROKEN),
        (a_disk(), tip(), Full.SNAPSHOT_GONE),
        (a_disk(snapshots=(a_snapshot("s2"),)), tip("s1"), Full.SNAPSHOT_GONE),
        (a_disk(snapshots=(a_snapshot(job_id=uid("else")),)), tip(), Full.SNAPSHOT_UNUSABLE),
        (a_disk(snapshots=(a_snapshot(usable=False),)), tip(), Full.SNAPSHOT_UNUSABLE),
        (a_disk(snapshots=(a_snapshot(),), image_format=ImageFormat.QCOW2), tip(), Full.UNTRACKED),
        (a_disk(snapshots=(a_snapshot(sr_uuid=uid("sr2")),)), tip(), Full.MOVED),
        (a_disk(snapshots=(a_snapshot(),), virtual_size_bytes=14 * MIB), tip(), Full.SHRUNK),
        (
            a_disk(snapshots=(a_snapshot(),), virtual_size_bytes=32 * MIB),
            tip(size_max_bytes=31 * MIB),
            Full.GROWN_PAST_TABLE,
        ),
    ],
)
def test_every_full_has_its_reason(disk, remote_tip: RemoteTip, expected: Full) -> None:
    choice = choose(disk, remote_tip)
    assert choice.base is None and choice.full is expected and choice.reason


def test_a_grown_disk_stays_a_delta_while_the_table_has_room() -> None:
    disk = a_disk(snapshots=(a_snapshot(),), virtual_size_bytes=32 * MIB)
    assert choose(disk, tip(size_max_bytes=32 * MIB)).base is not None
    assert choose(disk, tip()).base is not None


@pytest.mark.parametrize(
    ("interval", "deltas_made", "is_full"),
    [(0, 500, False), (1, 0, True), (2, 0, False), (2, 1, True), (3, 1, False), (3, 2, True), (3, 7, True)],
)
def test_every_nth_backup_is_full(interval: int, deltas_made: int, is_full: bool) -> None:
    disk = a_disk(snapshots=(a_snapshot(chain_length=deltas_made),))
    choice = choose(disk, tip(), full_interval=interval)
    assert (choice.full is Full.FULL_INTERVAL) is is_full


def test_a_chain_that_the_lock_ends_gives_way_to_a_full_with_its_reason() -> None:
    choice = choose(a_disk(snapshots=(a_snapshot(),)), tip(chain_end="its first disk is locked only until noon"))
    assert choice.full is Full.LOCK and choice.base is None
    assert choice.reason == "the lock on nas wants a new chain: its first disk is locked only until noon"


def test_only_fulls_as_asked_count_as_expected() -> None:
    assert {why for why in Full if why.expected} == {
        Full.FIRST_RUN,
        Full.FULL_INTERVAL,
        Full.MEMORY,
        Full.LOCK,
    }


def test_remotes_with_the_same_tip_share_one_stream() -> None:
    disk = a_disk(snapshots=(a_snapshot(),))
    routes = plan_routes(disk, {"nas": tip(), "off-site": tip()}, job_id=JOB)
    assert [(route.base.vdi_uuid, route.remotes) for route in routes] == [(uid("s1"), ("nas", "off-site"))]


def test_a_remote_that_missed_a_run_catches_up_with_a_delta_of_its_own() -> None:
    disk = a_disk(snapshots=(a_snapshot("s2", datetime="20260102T00:00:00Z"), a_snapshot("s1")))
    routes = plan_routes(disk, {"late": tip("s1"), "nas": tip("s2"), "new": RemoteTip()}, job_id=JOB)
    assert [route.remotes for route in routes] == [("nas",), ("late",), ("new",)]
    assert [route.delta for route in routes] == [True, True, False]
    assert routes[2].full is Full.REMOTE_EMPTY


def test_a_group_of_fulls_tells_every_reason_and_the_worst_code() -> None:
    disk = a_disk()
    routes = plan_routes(disk, {"a": RemoteTip(), "b": tip()}, job_id=JOB)
    assert len(routes) == 1 and routes[0].full is Full.SNAPSHOT_GONE
    assert "first backup" in routes[0].reason and "gone from the pool" in routes[0].reason
