"""Runs on a bucket with object lock: what is put is locked, nothing locked is touched, chains end in time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotes.encryption.markers import open_xo_encrypted
from remotes.faults import PowerCut
from remotes.s3.locking import ObjectLock
from xobackup.engine import events
from xobackup.engine.run import plan_job, run_job
from xobackup.repository.errors import Locked
from xobackup.repository.lock_rule import DAY_S as DAY
from xobackup.repository.lock_rule import LockRule
from xobackup.simpool import SimPool
from xotest.lab import SMALL, Lab, only
from xotest.s3.faults import FaultyS3, at
from xotest.s3.locking import Kept, LockingS3

RULE = LockRule(mode="governance", days=4, chain_days=2)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as started:
        yield started


def lock_of(rule: LockRule) -> ObjectLock:
    return ObjectLock(mode=rule.mode, seconds_of=rule.seconds_of)


def locked_lab(tmp_path: Path, pool: SimPool, rule: LockRule = RULE) -> tuple[Lab, LockingS3]:
    lab = Lab(tmp_path, pool, lock=rule)
    store = LockingS3(lab.clock)
    lab.remotes["nas"] = store.locked(lock_of(rule))
    lab.with_settings(retention=2, full_interval=0)
    return lab, store


def day(lab: Lab, count: int = 1) -> list[int]:
    """Runs, a day apart; the fulls of each."""
    found = []
    for _ in range(count):
        lab.write(0, 0, b"changed %d" % lab.ids)
        found.append(only(lab.run(after_s=DAY)).fulls)
    return found


def newest(store: LockingS3, part: str) -> dict[str, Kept]:
    return {key: kept[0] for key, kept in store.versions.items() if part in key and kept[0].stored is not None}


def store_disks(store: LockingS3) -> list[str]:
    return [key for key in store.objects if key.endswith(".alias.vhd")]


def test_every_object_of_a_restore_point_is_locked_as_it_is_put(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool)
    day(lab)
    began_s = lab.clock.now_s()
    disks, points = newest(store, "/vdis/"), newest(store, "Z.json")
    assert len(disks) > 8 and len(points) == 1
    for kept in disks.values():
        assert kept.mode == "GOVERNANCE" and kept.until is not None
        assert kept.until.timestamp() >= began_s + 6 * DAY - 600
    assert all(kept.until and kept.until.timestamp() >= began_s + 6 * DAY - 600 for kept in points.values())
    private = newest(store, ".xobackup/")
    assert private and all(kept.until is None for kept in private.values())
    assert not newest(store, "cache.json.gz")


def test_chains_end_in_time_and_go_as_a_whole_when_their_locks_have_ended(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool)
    seen = day(lab, 5)
    assert [count > 0 for count in seen] == [True, False, False, True, False]
    assert len(lab.points()) == 5  # retention keeps 2, the lock all of them
    assert not lab.journal.of(events.Merged) and not lab.journal.of(events.PointsExpired)
    held = lab.journal.of(events.HeldByLock)
    assert held[-1].points or "restore points are held by object lock (governance)" in held[-1].reason
    assert any("restore points are held by object lock (governance)" in one.reason for one in held)
    lab.check()
    first = sorted(key for key in store.objects if "/vdis/" in key and key.endswith(".alias.vhd"))[0]
    day(lab, 3)  # the lock of the first restore point has ended, not those of the last that build on it
    assert len(lab.points()) == 8
    assert any("build on it" in one.reason for one in lab.journal.of(events.HeldByLock))
    day(lab, 2)
    assert len(lab.points()) == 7 and first not in store.objects
    assert not lab.journal.of(events.Merged)
    lab.check()
    for key, versions in store.versions.items():  # no object was hidden before its time
        marks = [kept for kept in versions if kept.stored is None]
        for kept in versions:
            if kept.until is not None and marks and "/vdis/" in key:
                assert marks[0].modified_s >= kept.until.timestamp() - 1


def test_the_reason_of_the_full_and_what_is_held_are_told_beforehand(tmp_path: Path, pool: SimPool) -> None:
    lab, _ = locked_lab(tmp_path, pool)
    day(lab, 3)
    lab.clock.advance(DAY)
    plan = plan_job(lab.job(), lab.world())
    (vm,) = plan.vms
    route = vm.disks[0].routes[0]
    assert route.full is not None and route.full.value == "lock" and route.full.expected
    assert "is locked only until" in route.reason and "protected for 4 days" in route.reason
    assert any("retention keeps the newest 2, but 2 restore points are held" in note for note in vm.notes), vm.notes


def test_a_chain_from_before_the_lock_is_not_continued(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool)
    lab.lock = None
    lab.remotes["nas"] = store.locked(None)
    day(lab, 2)
    lab.lock, lab.remotes["nas"] = RULE, store.locked(lock_of(RULE))
    (report,) = [only(lab.run(after_s=DAY))]
    assert report.fulls > 0
    planned = lab.journal.of(events.VmPlanned)[-1]
    assert "is not locked" in str(planned)


def test_deleting_a_locked_restore_point_is_refused(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool)
    day(lab)
    (point,) = lab.points()
    before = dict(store.objects)
    with lab.repository().lock(lab.vm_uuid) as directory, pytest.raises(Locked, match=r"object lock .* until 20"):
        directory.delete_points([point.id])
    assert {key for key in before if "xo-vm" in key} == {key for key in store.objects if "xo-vm" in key}


def test_a_bucket_that_locks_by_itself_is_merged_when_its_locks_have_ended(tmp_path: Path, pool: SimPool) -> None:
    lab = Lab(tmp_path, pool)
    store = LockingS3(lab.clock, default=("COMPLIANCE", 3))
    lab.remotes["nas"] = store.locked(None)
    lab.with_settings(retention=2)
    assert day(lab, 3)[1:] == [0, 0]
    assert len(lab.points()) == 3 and len(store_disks(store)) == 6
    assert any("until 20" in one.reason for one in lab.journal.of(events.HeldByLock))
    day(lab, 5)
    assert len(store_disks(store)) < 2 * 7 and not lab.journal.of(events.Warned)
    lab.check(finished=False)


def test_full_backups_wait_for_the_end_of_their_lock_too(tmp_path: Path, pool: SimPool) -> None:
    lab, _ = locked_lab(tmp_path, pool, LockRule(mode="compliance", days=1.5, chain_days=1))
    lab.with_settings(mode="full", retention=1)
    day(lab, 3)
    assert len(lab.points()) == 3
    day(lab, 2)
    assert len(lab.points()) == 3


def test_a_store_that_does_not_lock_what_it_is_told_to_is_noticed(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool)
    store.tells = False
    assert day(lab)
    assert any("s3:GetObjectRetention" in one.message for one in lab.journal.of(events.Warned))


def test_what_decrypts_the_backups_is_locked_anew_by_every_run(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool)
    lab.remotes["nas"] = open_xo_encrypted(store.locked(lock_of(RULE)), "0123456789abcdef0123456789abcdef")
    day(lab, 3)
    for name in ("dir/encryption.json", "dir/metadata.json"):
        (kept,) = store.versions[name]
        assert kept.until is not None and kept.until.timestamp() >= lab.clock.now_s() + 6 * DAY - 600


def test_a_power_cut_at_any_request_leaves_what_the_next_run_can_use(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool, LockRule(mode="governance", days=1.5, chain_days=1))
    lab.with_settings(retention=1)
    day(lab, 4)
    for number in (20, 60):
        lab.remotes["nas"] = store.locked(lock_of(RULE), lambda client, n=number: FaultyS3(client, at(n, _cut)))
        lab.clock.advance(DAY)
        with contextlib.suppress(PowerCut):
            run_job(lab.job(), lab.world())
        lab.remotes["nas"] = store.locked(lock_of(RULE))
        day(lab)
        lab.check(finished=False)


def _cut() -> BaseException:
    return PowerCut("killed")


def test_a_chain_that_is_locked_less_strictly_is_not_continued(tmp_path: Path, pool: SimPool) -> None:
    lab, store = locked_lab(tmp_path, pool)
    day(lab)
    strict = LockRule(mode="compliance", days=4, chain_days=2)
    lab.lock, lab.remotes["nas"] = strict, store.locked(lock_of(strict))
    assert day(lab) != [0] and day(lab) == [0]
    assert any("locked in governance mode only" in str(one) for one in lab.journal.of(events.VmPlanned))
