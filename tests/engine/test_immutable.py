"""Immutable files on real file systems: nobody touches them, runs go on, and it ends when the flags are lifted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotes import errors, faces
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from xobackup.engine import events
from xobackup.engine.held import not_frozen
from xobackup.engine.run import plan_job
from xobackup.repository.errors import Locked
from xobackup.repository.freezing import Dated, FreezeReport, Want, apply_freezing, wanted
from xobackup.repository.lock_rule import DAY_S as DAY
from xobackup.repository.lock_rule import LockRule
from xobackup.simpool import SimPool
from xotest.lab import SMALL, Lab, only
from xotest.mounts import loop

RULE = LockRule(mode="immutable", days=2, chain_days=1)
MIB = 1 << 20


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as started:
        yield started


@pytest.fixture
def disk() -> Iterator[Path]:
    with loop(200 * MIB) as mounted:
        path = mounted.path / "repository"
        path.mkdir()
        yield path


def lab_on(path: Path, tmp_path: Path, pool: SimPool, *, rule: LockRule | None, directory: bool = False) -> Lab:
    lab = Lab(tmp_path, pool, lock=rule, vhd_directory=directory)
    lab.remotes["nas"] = LocalRemote(path)
    lab.with_settings(retention=1)
    return lab


def day(lab: Lab) -> int:
    lab.write(0, 0, b"changed %d" % lab.ids)
    return only(lab.run(after_s=DAY)).fulls


def freeze(lab: Lab, rule: LockRule = RULE) -> FreezeReport:
    return apply_freezing(lab.remotes["nas"], rule, clock=lab.clock, check=lambda: None)


@pytest.mark.parametrize("directory", [False, True], ids=["files", "directories"])
def test_what_is_frozen_stays_and_chains_end_in_time(
    disk: Path, tmp_path: Path, pool: SimPool, directory: bool
) -> None:
    lab = lab_on(disk, tmp_path, pool, rule=RULE, directory=directory)
    fulls = []
    for _ in range(6):
        fulls.append(day(lab) > 0)
        assert freeze(lab).frozen and not freeze(lab).frozen
        for point in lab.points()[-1:]:
            json_file = disk / f"xo-vm-backups/{lab.vm_uuid}/{point.id}.json"
            with pytest.raises(PermissionError):
                json_file.unlink()
            for each in point.disks:
                with pytest.raises(PermissionError):
                    (json_file.parent / each.path).rename(disk / "stolen")
    assert fulls == [True, False] * 3
    assert not lab.journal.of(events.Failed) and not lab.journal.of(events.Warned)
    held = lab.journal.of(events.HeldByLock)
    assert any("held by the immutable flag until 2026-" in one.reason for one in held)
    assert len(lab.points()) == 4
    lab.check()
    lab.clock.advance(30 * DAY)
    lifted = freeze(lab)
    assert lifted.lifted and not lifted.frozen
    assert day(lab) > 0
    lab.run(after_s=60)
    assert len(lab.points()) <= 2
    lab.check(finished=False)


def test_the_plan_says_why_a_full_and_until_when(disk: Path, tmp_path: Path, pool: SimPool) -> None:
    lab = lab_on(disk, tmp_path, pool, rule=RULE)
    for _ in range(2):
        day(lab)
        freeze(lab)
    lab.clock.advance(DAY)
    (vm,) = plan_job(lab.job(), lab.world()).vms
    assert "may grow for 1 day:" in vm.disks[0].routes[0].reason
    assert any("held by the immutable flag" in note and "until 2026-" in note for note in vm.notes)


def test_files_that_somebody_else_made_immutable_are_left_alone_until_that_ends(
    disk: Path, tmp_path: Path, pool: SimPool
) -> None:
    lab = lab_on(disk, tmp_path, pool, rule=None)
    remote = lab.remotes["nas"]
    assert isinstance(remote, LocalRemote)
    told = {"since": 0, "immutable": True, "duration": 5 * 86_400_000}
    (disk / "immutability.json").write_text(json.dumps(told))
    assert day(lab) > 0
    (first,) = lab.points()
    frozen = [f"xo-vm-backups/{lab.vm_uuid}/{first.id}.json"]
    frozen += [f"xo-vm-backups/{lab.vm_uuid}/{each.path}" for each in first.disks]
    for name in frozen:
        remote.freeze(name, True)
    assert day(lab) == 0
    (held,) = lab.journal.of(events.HeldByLock)
    assert held.points == [first.id] and "the immutable flag until 2026-01-07 00:00 UTC" in held.reason
    assert not lab.journal.of(events.Warned)
    with lab.repository().lock(lab.vm_uuid) as directory, pytest.raises(Locked):
        directory.delete_points([first.id])
    with pytest.raises(errors.AccessDenied, match="held by the immutable flag") as caught:
        remote.delete(frozen[0])
    assert "chattr -i" in str(caught.value.hint)
    lab.check(finished=False)
    for name in frozen:
        remote.freeze(name, False)
    day(lab)
    assert len(lab.points()) == 1 and lab.journal.of(events.Merged)
    lab.check()


def test_a_run_whose_litter_is_immutable_says_so_and_goes_on(disk: Path, tmp_path: Path, pool: SimPool) -> None:
    lab = lab_on(disk, tmp_path, pool, rule=None)
    day(lab)
    remote = lab.remotes["nas"]
    assert isinstance(remote, LocalRemote)
    path = next(iter(sorted((disk / "xo-vm-backups" / lab.vm_uuid / "vdis").glob("*/*")))).relative_to(disk)
    remote.put(f"{path}/.20250101T000000Z.vhd.part", b"left")
    remote.freeze(f"{path}/.20250101T000000Z.vhd.part", True)
    day(lab)
    assert any(".part is held by the immutable flag" in one.reason for one in lab.journal.of(events.HeldByLock))
    with lab.repository().lock(lab.vm_uuid) as directory:
        assert not [one for one in directory.clean_apply().done if "part" in one.problem.path]


def test_restore_points_that_nobody_freezes_are_told(disk: Path, tmp_path: Path, pool: SimPool) -> None:
    lab = lab_on(disk, tmp_path, pool, rule=RULE)
    day(lab)
    (point,) = lab.points()
    assert not not_frozen(lab.repository(), now_s=lab.clock.now_s())
    lab.clock.advance(1.1 * DAY)
    assert not_frozen(lab.repository(), now_s=lab.clock.now_s()) == [
        f"guest: 1 of 1 restore points, the oldest {point.id}"
    ]
    freeze(lab)
    assert not not_frozen(lab.repository(), now_s=lab.clock.now_s())


def test_flags_wait_for_the_lock_of_the_vm(disk: Path, tmp_path: Path, pool: SimPool) -> None:
    lab = lab_on(disk, tmp_path, pool, rule=RULE)
    day(lab)
    with lab.repository().lock(lab.vm_uuid):
        report = freeze(lab)
    assert not report.frozen and "its turn comes next time" in report.left[0]
    assert freeze(lab).frozen
    announced = json.loads((disk / "immutability.json").read_bytes())
    assert announced["immutable"] is True and announced["duration"] == 3 * 86_400_000


def test_a_file_system_without_flags_says_so() -> None:
    assert faces.protection(MemoryRemote(), "anything") is None


@pytest.mark.parametrize(
    ("stamp", "whole", "want"),
    [
        ("20260110T000000Z", True, Want.FREEZE),
        ("20260110T000000Z", False, Want.LEAVE),
        ("20260107T000001Z", True, Want.FREEZE),
        ("20260107T000000Z", True, Want.LIFT),
        ("20260107T000000Z", False, Want.LIFT),
        ("20260110T235900Z", True, Want.FREEZE),
        ("20260111T000100Z", True, Want.LEAVE),
        ("20991231T000000Z", True, Want.LEAVE),
        ("20261399T000000Z", True, Want.LEAVE),
    ],
)
def test_what_becomes_of_a_name_is_decided_by_its_time(stamp: str, whole: bool, want: Want) -> None:
    now_s = 1_768_003_200.0  # 2026-01-10
    found, told = wanted(Dated(stamp=stamp, whole=whole, names=(stamp,)), RULE, now_s=now_s)
    assert found is want
    assert bool(told) == (stamp > "20260111" and want is Want.LEAVE and stamp != "20261399T000000Z")
