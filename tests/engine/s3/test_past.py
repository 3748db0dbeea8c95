"""After an attack on a bucket with versions: backups are restored from the past, and brought back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotes import errors, faces
from remotes.encryption.markers import open_xo_encrypted
from remotes.faults import PowerCut
from remotes.memory import MemoryRemote
from remotes.s3.locking import ObjectLock
from xobackup.engine.undelete import Then, undelete
from xobackup.repository.lock_rule import DAY_S, LockRule
from xobackup.repository.repository import Repository
from xobackup.repository.undeleting import Undelete, plan_undelete
from xobackup.simpool import SimPool
from xotest.lab import SMALL, Lab, sha256_of
from xotest.s3.faults import FaultyS3, at
from xotest.s3.locking import LockingS3

RULE = LockRule(mode="compliance", days=10, chain_days=5)
LOCK = ObjectLock(mode="compliance", seconds_of=RULE.seconds_of)
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as started:
        yield started


@pytest.fixture
def lab(tmp_path: Path, pool: SimPool) -> Lab:
    lab = Lab(tmp_path, pool, lock=RULE)
    lab.remotes["nas"] = store_of(lab).locked(LOCK)
    for number in range(3):
        lab.write(0, 0, b"changed %d" % number)
        lab.run(after_s=DAY_S)
    return lab


STORES: dict[int, LockingS3] = {}


def store_of(lab: Lab) -> LockingS3:
    return STORES.setdefault(id(lab), LockingS3(lab.clock, page=37))


def attack(lab: Lab) -> float:
    """Everything is deleted, one restore point is overwritten; returns a time before that."""
    before_s = lab.clock.now_s()
    lab.clock.advance(60)
    store = store_of(lab)
    points = sorted(key for key in store.objects if key.endswith("Z.json"))
    for key in list(store.objects):
        store.delete_object(Bucket="bucket", Key=key)
    store.put_object(Bucket="bucket", Key=points[0], Body=b"{}")
    lab.clock.advance(60)
    return before_s


def then_of(lab: Lab, time_s: float, remote: faces.Past | None = None) -> Then:
    past = remote or faces.as_of(lab.remotes["nas"], time_s)
    return Then(repository=Repository(past, clock=lab.clock), past=past)


def assert_readable(lab: Lab, repository: Repository, count: int) -> None:
    points = repository.points(lab.vm_uuid).points
    assert len(points) == count
    for point in points:
        for disk in point.disks:
            chain = repository.open_disk(point, disk.vdi_ref)
            try:
                assert sha256_of(chain) == lab.expected["nas", point.id][disk.live_vdi_uuid]
            finally:
                chain.close()


def test_every_restore_point_is_read_from_before_the_attack(lab: Lab) -> None:
    before_s = attack(lab)
    assert not lab.repository().points(lab.vm_uuid).points
    assert_readable(lab, then_of(lab, before_s).repository, 3)
    assert_readable(lab, then_of(lab, before_s - DAY_S).repository, 2)
    report = then_of(lab, before_s).repository.verify(lab.vm_uuid)
    assert not report.problems


def test_the_past_is_read_only_and_begins_somewhere(lab: Lab) -> None:
    past = then_of(lab, lab.clock.now_s()).past
    for change in (
        lambda: past.put("x", b""),
        lambda: past.delete("x", missing_ok=True),
        lambda: past.rename("x", "y"),
        lambda: past.delete_tree("x"),
        lambda: past.touch("x"),
        lambda: past.make_directory("x"),
    ):
        with pytest.raises(errors.ReadOnly):
            change()
    with pytest.raises(errors.NotFound):
        faces.as_of(lab.remotes["nas"], 0).list("xo-vm-backups/nothing")
    assert not then_of(lab, 1.0).repository.points(lab.vm_uuid).points


def test_a_storage_without_versions_has_no_past(lab: Lab) -> None:
    with pytest.raises(errors.NotSupported, match="only a bucket that keeps old versions"):
        faces.as_of(MemoryRemote(), 0)
    store_of(lab).get_bucket_versioning = lambda **_: {}  # type: ignore[method-assign]
    with pytest.raises(errors.NotSupported, match="keeps no old versions"):
        faces.as_of(lab.remotes["nas"], 0)


def bring_back(lab: Lab, then: Then) -> list[str]:
    present = lab.repository()
    return undelete(then, present, lab.vm_uuid, None, lock_wait_s=120, check=lambda: None, done=lambda _: None)


def plans(lab: Lab, then: Then) -> dict[str, Undelete]:
    return {plan.point.id: plan for plan in plan_undelete(then.repository, then.past, lab.vm_uuid, None)}


def test_what_was_hidden_comes_back_locked_and_what_was_replaced_is_told(lab: Lab) -> None:
    before_s = attack(lab)
    then = then_of(lab, before_s)
    first, second, third = sorted(plans(lab, then))
    assert "was replaced since (a merge, or an attack)" in plans(lab, then)[first].problem
    assert bring_back(lab, then) == [second, third]
    store = store_of(lab)
    for name in (f"dir/xo-vm-backups/{lab.vm_uuid}/{third}.json",):
        newest = store.versions[name][0]
        assert newest.mode == "COMPLIANCE" and newest.until is not None
        assert newest.until.timestamp() >= lab.clock.now_s() + 15 * DAY_S - 600
    points = {point.id: point for point in lab.points()}
    assert sorted(points) == [second, third]
    assert sorted(plans(lab, then_of(lab, before_s))) == [first]
    lab.check(finished=False)
    lab.run()


def test_encrypted_backups_are_read_and_come_back_as_well(tmp_path: Path, pool: SimPool) -> None:
    lab = Lab(tmp_path, pool, lock=RULE)
    store = LockingS3(lab.clock)
    lab.remotes["nas"] = open_xo_encrypted(store.locked(LOCK), KEY)
    lab.run(after_s=DAY_S)
    before_s = lab.clock.now_s()
    lab.clock.advance(60)
    for key in [key for key in store.objects if "/xo-vm-backups/" in key]:
        store.delete_object(Bucket="bucket", Key=key)
    past = faces.as_of(store.locked(LOCK), before_s)
    then = Then(repository=Repository(open_xo_encrypted(past, KEY), clock=lab.clock), past=past)
    assert_readable(lab, then.repository, 1)
    assert len(bring_back(lab, then)) == 1
    lab.check(finished=False)


def test_a_power_cut_at_any_request_of_an_undelete(lab: Lab) -> None:
    before_s = attack(lab)
    store = store_of(lab)
    number, done = 0, False
    while not done:
        number += 41
        faulty = FaultyS3(store, at(number, lambda: PowerCut("killed")))
        cut = store.locked(LOCK, lambda _, client=faulty: client)
        lab.remotes["nas"] = cut
        with contextlib.suppress(PowerCut):
            bring_back(lab, then_of(lab, before_s))
        done = not faulty.fired
        lab.remotes["nas"] = store.locked(LOCK)
        for point in lab.points():
            for disk in point.disks:
                lab.repository().open_disk(point, disk.vdi_ref).close()
        lab.clock.advance(120)
    assert number > 82 and len(lab.points()) == 2
    lab.check(finished=False)
