"""Whole runs whose repository is an object store: deltas, full backups, databases of pools, restores, encryption."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remotes.contract import Remote
from remotes.encryption.markers import open_xo_encrypted
from remotes.faults import PowerCut
from remotes.retrying import RetryingRemote
from remotes.url import open_remote
from xobackup.clock import SystemClock
from xobackup.engine import events
from xobackup.engine.restore.files import restore_to_file
from xobackup.engine.run import run_job
from xobackup.repository.remembered import describes
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xotest.lab import MIB, SMALL, Lab, only
from xotest.s3.faults import FaultyS3, at
from xotest.s3.memory import MemoryS3
from xotest.s3.stores import Store

KEY = "0123456789abcdef0123456789abcdef"
LARGE = PoolSpec(
    vms=(VmSpec(name="guest", disks=(DiskSpec(name="system", size_bytes=32 * MIB, filled_bytes=24 * MIB),)),)
)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as started:
        yield started


def lab_on(remote: Remote, tmp_path: Path, pool: SimPool, **settings: object) -> Lab:
    lab = Lab(tmp_path, pool, remotes={"nas": remote})
    lab.with_settings(retention=2, **settings)
    return lab


def memory(lab_clock: object) -> MemoryS3:
    return MemoryS3(lab_clock)  # type: ignore[arg-type]


def run_some(lab: Lab, runs: int = 4) -> None:
    workload = lab.pool.workload(lab.vm, seed=3)
    for number in range(runs):
        workload.step()
        vm = only(lab.run())
        assert (vm.fulls > 0) == (number == 0 or lab.settings.mode == "full")
    assert len(lab.points()) == lab.settings.retention


def test_runs_merge_and_restore(tmp_path: Path, pool: SimPool) -> None:
    lab = Lab(tmp_path, pool)
    store = memory(lab.clock)
    lab.remotes["nas"] = RetryingRemote(store.remote())
    lab.with_settings(retention=2)
    run_some(lab)
    lab.check()
    lab.assert_tidy()
    used = lab.journal.of(events.StorageUsed)
    assert len(used) == 4 and used[-1].requests["copy_object"] > 0 and used[-1].sent_bytes > 0
    point = lab.points()[0]
    for disk in point.disks:
        path = tmp_path / f"{disk.live_vdi_uuid}.raw"
        written = restore_to_file(lab.world(), lab.repository(), point, disk, path)
        assert written.compared == written.blocks and written.unchecked == 0


def test_a_run_asks_for_nothing_again_and_again(tmp_path: Path, pool: SimPool) -> None:
    """What describes a disk is read without the lock once, and under it once."""
    lab = Lab(tmp_path, pool)
    store, asked = memory(lab.clock), Counter[str]()
    plain = store.get_object

    def counted(**parameters: Any) -> Any:
        asked[parameters["Key"]] += 1
        return plain(**parameters)

    store.get_object = counted  # type: ignore[method-assign]
    lab.remotes["nas"] = store.remote()
    lab.with_settings(retention=3)
    run_some(lab, 4)
    asked.clear()
    only(lab.run())
    describing = {key: count for key, count in asked.items() if describes(key)}
    assert len(describing) > 30 and max(describing.values()) <= 2
    before, after = (sum(used.requests.values()) for used in lab.journal.of(events.StorageUsed)[-2:])
    assert after - before < 300


@pytest.mark.slow
def test_runs_on_a_real_store(tmp_path: Path, pool: SimPool, radosgw_stores: tuple[Store, Store]) -> None:
    store = radosgw_stores[1]
    lab = lab_on(RetryingRemote(open_remote(store.url(store.bucket(), "xen"))), tmp_path, pool)
    lab.clock.advance(max(0.0, SystemClock().now_s() - lab.clock.now_s()))
    run_some(lab, 3)
    lab.check()
    lab.remotes["nas"].close()


def test_a_full_backup_is_uploaded_in_parts(tmp_path: Path) -> None:
    with SimPool.start(tmp_path / "pool", spec=LARGE) as pool:
        lab = Lab(tmp_path, pool)
        store = memory(lab.clock)
        lab.remotes["nas"] = store.remote()
        lab.with_settings(retention=1, mode="full", compression="none")
        run_some_full(lab)
        used = lab.journal.of(events.StorageUsed)[-1]
        assert used.requests["upload_part"] >= 3
        assert store.uploads == {} and not [key for key in store.objects if "/images/" in key]
        lab.check()


def run_some_full(lab: Lab) -> None:
    for _ in range(2):
        lab.write(0, 0, b"changed")
        assert only(lab.run()).fulls == 1
    assert len(lab.points()) == 1


def test_a_full_backup_that_was_killed_leaves_an_upload_that_the_next_run_takes_back(tmp_path: Path) -> None:
    with SimPool.start(tmp_path / "pool", spec=LARGE) as pool:
        lab = Lab(tmp_path, pool)
        store = memory(lab.clock)
        faulty = FaultyS3(store, lambda _, kind: PowerCut("killed") if kind == "complete_multipart_upload" else None)
        lab.remotes["nas"] = store.remote(lambda _: faulty)
        lab.with_settings(retention=1, mode="full", compression="none")
        with pytest.raises(PowerCut):
            run_job(lab.job(), lab.world())
        assert len(store.uploads) == 1
        lab.remotes["nas"] = store.remote()
        lab.clock.advance(120)
        lab.run()
        assert store.uploads == {}
        lab.check()


def test_the_databases_of_pools_go_there_too(tmp_path: Path, pool: SimPool) -> None:
    lab = Lab(tmp_path, pool)
    lab.remotes["nas"] = memory(lab.clock).remote()
    lab.with_settings(pool_metadata=True, pool_metadata_retention=1)
    for _ in range(2):
        report = lab.run()
        assert [one.outcome for one in report.pools] == ["ok"]
    assert len(lab.repository().pools().points().points) == 1


def test_an_encrypted_store_has_leases_and_uploads_as_well(tmp_path: Path, pool: SimPool) -> None:
    lab = Lab(tmp_path, pool)
    store = memory(lab.clock)
    lab.remotes["nas"] = open_xo_encrypted(store.remote(), KEY)
    lab.with_settings(retention=2)
    run_some(lab, 3)
    lab.check(finished=False)
    lab.with_settings(mode="full", retention=1)
    assert only(lab.run()).fulls == 2
    assert any("/leases/" in key for key in store.objects)
    assert store.uploads == {}


def test_a_run_whose_store_dies_in_the_middle_goes_on_next_time(tmp_path: Path, pool: SimPool) -> None:
    lab = Lab(tmp_path, pool)
    store = memory(lab.clock)
    lab.remotes["nas"] = store.remote()
    lab.with_settings(retention=2)
    run_some(lab, 3)
    before, after = (sum(used.requests.values()) for used in lab.journal.of(events.StorageUsed)[-2:])
    total = after - before
    for number in range(5, total, total // 4):
        lab.write(0, number * 512, b"changed")
        cut = FaultyS3(store, at(number, lambda: PowerCut("killed")))
        lab.remotes["nas"] = store.remote(lambda _, cut=cut: cut)
        images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
        lab.clock.advance(3600)
        lab.pool.gc()
        with contextlib.suppress(PowerCut):
            run_job(lab.job(), lab.world())
        lab.remotes["nas"] = store.remote()
        for point in lab.points():
            lab.expected.setdefault(("nas", point.id), images)
        lab.check(finished=False)
        assert cut.fired
        vm = only(lab.run())
        assert vm.deltas == 2, f"killed at request {number}: {cut.fired}"
        lab.check()
        lab.assert_tidy()
