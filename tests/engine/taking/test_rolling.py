"""Snapshots that stay on the pool for their own sake, with remotes and without."""

from collections.abc import Callable

import pytest

from xobackup.engine import keys
from xobackup.engine.errors import UsageError
from xobackup.engine.job import FULL, Job, Selector, Settings, VmRule
from xobackup.engine.prune import Group, groups_of, judge
from xobackup.engine.view import VmSnapshot
from xotest.dying import Death, run_and_die
from xotest.lab import Lab, only
from xotest.views import a_disk, a_job, a_snapshot, a_vm

Make = Callable[..., Lab]


def group(
    day: int, *, schedule: str = "s", exported: bool = True, complete: bool = False, disks: bool = True
) -> Group:
    moment = f"202601{day:02}T00:00:00Z"
    snapshot = a_snapshot(f"s{day}", datetime=moment, exported=exported)
    return Group(
        datetime=moment,
        vm_snapshot_ref=f"OpaqueRef:vm-{day}",
        disks=(snapshot,) if disks else (),
        schedule_id=schedule,
        complete=exported or complete,
    )


def kept(groups: list[Group], **settings: object) -> list[int]:
    verdicts = judge(groups, **{"tips": {}, "bases_max": 2, **settings})  # type: ignore[arg-type]
    assert all(verdict.reason for verdict in verdicts)
    return [int(verdict.group.datetime[6:8]) for verdict in verdicts if verdict.keep]


def test_so_many_of_the_newest_stay_per_schedule() -> None:
    groups = [group(day, schedule="ab"[day % 2]) for day in range(1, 9)]
    assert kept(groups, rolling=2) == [8, 7, 6, 5]
    assert kept(groups, rolling=1) == [8, 7]
    assert kept(groups) == [8], "the base alone"


def test_a_base_that_is_needed_stays_whatever_the_count() -> None:
    groups = [group(day) for day in range(1, 7)]
    tips = {"nas": [groups[-1].disks[0].vdi_uuid], "off-site": [groups[0].disks[0].vdi_uuid]}
    assert kept(groups, rolling=2, tips=tips) == [6, 5, 1]


def test_what_was_never_completed_does_not_count() -> None:
    groups = [group(1), group(2, exported=False), group(3, exported=False, complete=True)]
    assert kept(groups, rolling=2) == [3, 1]
    assert kept(groups, rolling=1, bases_max=0) == [3]
    assert kept(groups, rolling=1) == [3, 1], "what is no base does not stand for one"


def test_a_snapshot_without_disks_is_no_base_but_may_be_kept() -> None:
    groups = [group(1), group(2, disks=False)]
    assert kept(groups) == [1]
    assert kept(groups, rolling=1) == [2, 1]


def test_snapshots_whose_disks_are_gone_are_still_found() -> None:
    mine, others = (
        VmSnapshot(ref=job, datetime="20260101T00:00:00Z", job_id=job, schedule_id="s", complete=True)
        for job in (a_job().id, "another")
    )
    vm = a_vm(disks=(a_disk(),), snapshots=(mine, others))
    assert [one.vm_snapshot_ref for one in groups_of(vm, a_job().id)] == [a_job().id]


def labels(lab: Lab) -> list[str]:
    return sorted(one["other_config"][keys.DATETIME] for one in lab.snapshots())


def test_a_job_without_remotes_keeps_snapshots_alone(lab: Lab) -> None:
    moments: list[str] = []
    for number in range(4):
        lab.write(0, 0, bytes([number]) * 512)
        vm = only(lab.run(remotes=(), settings=Settings(snapshot_retention=2)))
        assert vm.outcome == "ok" and not vm.points and vm.snapshots == min(number + 1, 2)
        moments.append(max(labels(lab)))
    assert labels(lab) == moments[-2:]
    assert not lab.remotes["nas"].list("")
    lab.assert_tidy()


def test_a_job_that_gets_a_remote_keeps_what_it_had(lab: Lab) -> None:
    for _ in range(2):
        lab.run(remotes=(), settings=Settings(snapshot_retention=3))
    lab.with_settings(snapshot_retention=3)
    assert only(lab.run()).snapshots == 3 and len(lab.snapshots()) == 3
    lab.check()


@pytest.mark.parametrize("mode", ["delta", FULL])
def test_a_job_with_remotes_keeps_both(lab: Lab, mode: str) -> None:
    lab.with_settings(snapshot_retention=2, retention=3, mode=mode)
    for number in range(4):
        lab.write(0, 0, bytes([number]) * 512)
        vm = only(lab.run())
    assert len(lab.points()) == 3 and len(labels(lab)) == 2 and vm.snapshots == 2
    if mode == "delta":
        assert vm.deltas == 1
    lab.check()
    lab.assert_tidy()


def test_snapshots_of_others_are_never_touched(lab: Lab) -> None:
    by_hand = lab.pool.call("VM.snapshot", lab.vm, "by hand")
    lab.run(remotes=(), name="another", settings=Settings(snapshot_retention=1))
    for _ in range(3):
        lab.run(remotes=(), settings=Settings(snapshot_retention=1))
    assert len(lab.snapshots()) == 3
    assert lab.pool.model.get("VM", by_hand)["name_label"] == "by hand"


def test_disks_named_nobak_are_not_in_them(make_lab: Make) -> None:
    lab = make_lab()
    disk = next(iter(lab.disks().values()))
    extra = lab.pool.call("VDI.clone", disk, {})
    lab.pool.call("VDI.set_name_label", extra, "scratch [NOBAK]")
    lab.pool.call(
        "VBD.create",
        {
            "VM": lab.vm,
            "VDI": extra,
            "userdevice": "1",
            "bootable": False,
            "mode": "RW",
            "type": "Disk",
            "empty": False,
            "unpluggable": True,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        },
    )
    lab.run(remotes=(), settings=Settings(snapshot_retention=1))
    assert len(lab.pool.vdis_of(lab.pool.model.get("VM", lab.vm)["snapshots"][0])) == 1


def test_those_of_a_vm_without_disks_stay_too(make_lab: Make) -> None:
    lab = make_lab(disks=())
    for _ in range(3):
        lab.run(remotes=(), settings=Settings(snapshot_retention=2))
        lab.run(name="another", selector=Selector(include=(VmRule(name="nobody"),)))
    assert len(lab.snapshots()) == 2


def test_memory_goes_with_its_snapshot(lab: Lab) -> None:
    for _ in range(3):
        lab.run(remotes=(), settings=Settings(snapshot_retention=2, snapshot="memory"))
    assert len(list(lab.pool.model.where("VDI", type="suspend"))) == 2 == len(lab.snapshots())


def test_killed_while_an_old_one_goes(lab: Lab) -> None:
    settings = Settings(snapshot_retention=1)
    lab.run(remotes=(), settings=settings)
    for at in (1, 2, 3, 4):
        assert run_and_die(
            lab, Death(at, since="Async.VDI.destroy", after=at % 2 == 0), remotes=(), settings=settings
        )
        lab.run(remotes=(), settings=settings)
        assert len(lab.snapshots()) == 1 and len(lab.pool.vdis_of(lab.vm)) == 1
        images = [one for _, one in lab.pool.model.where("VDI", is_a_snapshot=True)]
        assert len(images) == 1, f"killed at call {at}"
    lab.assert_tidy()


def test_killed_while_one_is_taken(lab: Lab) -> None:
    settings = Settings(snapshot_retention=2)
    for at in (1, 4, 7, 9):
        run_and_die(lab, Death(at, since="Async.VM.snapshot", after=True), remotes=(), settings=settings)
        lab.run(remotes=(), settings=settings)
    assert len(lab.snapshots()) == 2
    lab.assert_tidy()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"snapshot_retention": 1, "purge_snapshot_data": True}, "choose one"),
        ({"snapshot_retention": 1, "offline_backup": True, "mode": FULL}, "takes none"),
        ({"snapshot_retention": -1}, "at least 0"),
    ],
)
def test_what_cannot_go_together_is_refused(settings: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        a_job(settings=Settings(**settings))


def test_a_job_with_neither_remotes_nor_snapshots_is_refused() -> None:
    with pytest.raises(UsageError, match="no remote, no target for replicas, and keeps no snapshots"):
        Job(name="n", pools=a_job().pools, remotes=())
    with pytest.raises(UsageError, match="needs a remote"):
        Job(name="n", pools=a_job().pools, remotes=(), settings=Settings(snapshot_retention=1, pool_metadata=True))
