"""Backups, merges, verification and cleaning on stores that speak S3; the second opinion finds nothing wrong."""

from __future__ import annotations

import pytest

from remotes.retrying import RetryingRemote
from remotes.url import open_remote
from xobackup.clock import FakeClock
from xotest.backups import VM, Guest
from xotest.s3.memory import MemoryS3
from xotest.s3.stores import Store

NOW_S = 1_800_000_000.0


def back_up_and_check(remote, guest: Guest, letters: str = "EFGH") -> None:
    """Fewer ``letters`` where every request is a real one: three are a full, a delta and a merge."""
    for letter in letters:
        guest.back_up(remote, keep=2)
        guest.write(0, f"-{letter}--")
        guest.write(1, f"{letter}---")
        there = guest.check(remote, litter=False, merges=False)
    assert len(there) == 2
    repository = guest.repository(remote)
    report = repository.verify(VM)
    assert report.problems == [] and report.coverage.compared == report.coverage.blocks > 0
    assert repository.clean_plan(VM) == []


@pytest.mark.slow
def test_restore_points_come_and_go_on_a_real_store(radosgw_stores: tuple[Store, Store]) -> None:
    store = radosgw_stores[0]
    bucket = store.bucket()
    remote = RetryingRemote(open_remote(store.url(bucket, "deep/dir")))
    guest = Guest(FakeClock(NOW_S))
    back_up_and_check(remote, guest, "EFG")
    points = guest.repository(remote).points(VM).points
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points([point.id for point in points[:1]])
        directory.merge()
    guest.check(remote, litter=False, merges=False)
    client = store.client()
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    keys = {each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert all(key.startswith("deep/dir/") for key in keys)
    begun = [key for key in keys if "/begun/" in key or ".part" in key or "now-" in key or "probe" in key]
    assert begun == []
    remote.close()


@pytest.mark.slow
def test_a_careless_store_has_no_lock_and_keeps_backups_all_the_same(rclone_store: Store) -> None:
    remote = RetryingRemote(open_remote(rclone_store.url(rclone_store.bucket(), "dir")))
    back_up_and_check(remote, Guest(FakeClock(NOW_S), ("AB-", "-C-")), "EFG")
    assert not remote.capabilities.conditional_put
    assert "leases" not in {entry.name for entry in remote.list(".xobackup")}
    remote.close()


@pytest.mark.parametrize("page", [1000, 7])
def test_restore_points_come_and_go_in_memory(page: int) -> None:
    clock = FakeClock(NOW_S)
    back_up_and_check(MemoryS3(clock, page=page).remote(), Guest(clock))


def test_a_block_costs_a_merge_one_copy_and_a_thousandth_of_a_deletion() -> None:
    """What does not depend on the number of blocks is counted by merging two sizes."""
    counts = {}
    for blocks in (20, 60):
        clock = FakeClock(NOW_S)
        store = MemoryS3(clock)
        guest = Guest(clock, ("A" * 64,), digests=False)
        remote = store.remote()
        guest.back_up(remote)
        guest.write(0, "B" * blocks)
        guest.back_up(remote)
        repository = guest.repository(remote)
        with repository.lock(VM) as directory:
            directory.delete_points([directory.points().points[0].id])
            before = remote.traffic()
            report = directory.merge()
            used = remote.traffic().since(before)
        assert report.merges == 1
        counts[blocks] = used
        guest.check(remote, litter=False, merges=False)
    few, many = counts[20].requests, counts[60].requests
    assert many["copy_object"] - few["copy_object"] == 40 and few["copy_object"] <= 20 + 3
    assert {kind: count for kind, count in many.items() if kind != "copy_object"} == {
        kind: count for kind, count in few.items() if kind != "copy_object"
    }
    assert counts[60].received_bytes < 100_000, "no block comes through this machine"
