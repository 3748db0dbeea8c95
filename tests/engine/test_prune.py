"""Which snapshots on the pool have served."""

from xobackup.engine.prune import groups_of, judge
from xobackup.engine.view import VmSnapshot
from xotest.views import a_disk, a_job, a_snapshot, a_vm, uid

JOB = a_job().id
DAYS = ["20260101T00:00:00Z", "20260102T00:00:00Z", "20260103T00:00:00Z"]


def groups(**fields: object):
    snapshots = tuple(
        a_snapshot(f"s{n}", datetime=day, vm_snapshot_ref=f"vm{n}", **fields) for n, day in enumerate(DAYS)
    )
    return groups_of(a_vm(disks=(a_disk(snapshots=snapshots),)), JOB)


def kept(verdicts) -> list[str]:
    return [verdict.group.vm_snapshot_ref for verdict in verdicts if verdict.keep]


def test_the_newest_exported_is_kept_for_the_next_delta() -> None:
    verdicts = judge(groups(), tips={"nas": [uid("s2")]}, bases_max=2)
    assert kept(verdicts) == ["vm2"]
    assert {v.reason for v in verdicts if not v.keep} == {"a newer snapshot has taken its place"}


def test_an_older_one_is_kept_for_a_remote_that_missed_a_run() -> None:
    verdicts = judge(groups(), tips={"nas": [uid("s2")], "late": [uid("s0")]}, bases_max=2)
    assert kept(verdicts) == ["vm2", "vm0"]
    assert "late missed a run" in verdicts[2].reason


def test_the_number_of_bases_is_bounded_and_the_price_is_told() -> None:
    tips = {"nas": [uid("s2")], "late": [uid("s1")], "later": [uid("s0")]}
    verdicts = judge(groups(), tips=tips, bases_max=2)
    assert kept(verdicts) == ["vm2", "vm1"]
    assert "its next backup will be a full" in verdicts[2].reason


def test_a_snapshot_whose_export_failed_goes_and_does_not_count() -> None:
    failed = a_snapshot("s2", datetime=DAYS[2], vm_snapshot_ref="vm2", exported=False)
    good = a_snapshot("s1", datetime=DAYS[1], vm_snapshot_ref="vm1")
    verdicts = judge(groups_of(a_vm(disks=(a_disk(snapshots=(failed, good)),)), JOB), tips={}, bases_max=1)
    assert kept(verdicts) == ["vm1"]


def test_every_schedule_of_a_job_keeps_its_own_number() -> None:
    """The run of a schedule that keeps none leaves those of another one."""
    snapshots = tuple(
        VmSnapshot(ref=f"vm{n}", datetime=f"2026010{n}T00:00:00Z", job_id=JOB, schedule_id=schedule, complete=True)
        for n, schedule in enumerate(["daily", "daily", "weekly", "weekly"])
    )
    found = groups_of(a_vm(snapshots=snapshots), JOB)
    assert len(found) == 4
    verdicts = judge(found, tips={}, bases_max=0, rolling=0, rolling_of={"daily": 1})
    assert kept(verdicts) == ["vm1"] and "one of the newest 1" in verdicts[2].reason


def test_what_is_in_use_elsewhere_is_never_removed() -> None:
    assert len(kept(judge(groups(usable=False), tips={}, bases_max=1))) == 3


def test_snapshots_of_others_are_not_even_looked_at() -> None:
    others = (
        a_snapshot("a", job_id=uid("other")),
        a_snapshot("b", vm_uuid=uid("other")),
        a_snapshot("c", datetime=""),
    )
    assert groups_of(a_vm(disks=(a_disk(snapshots=others),)), JOB) == []


def test_disks_of_one_moment_form_one_group() -> None:
    one = a_disk("root", snapshots=(a_snapshot("r", vm_snapshot_ref="vm"),))
    two = a_disk("data", snapshots=(a_snapshot("d", vm_snapshot_ref="vm"),))
    found = groups_of(a_vm(disks=(one, two)), JOB)
    assert [len(group.disks) for group in found] == [2]
