"""Snapshots that keep only their change log: when, in which order, and what a crash in between leaves."""

import pytest

from remotes.memory import MemoryRemote
from xobackup.engine import events
from xobackup.engine.errors import UsageError
from xobackup.engine.purge import keep_reason
from xobackup.engine.reading.ladder import CbtUse, NbdUse, Via
from xobackup.engine.run import run_job
from xobackup.engine.transferred import DiskDone
from xobackup.simpool import SimPool
from xotest.lab import Lab, only


@pytest.fixture
def purging(lab: Lab) -> Lab:
    lab.with_settings(purge_snapshot_data=True)
    return lab


def kinds(lab: Lab) -> list[str]:
    """The types of the snapshots' disks on the pool."""
    return sorted(vdi["type"] for _, vdi in lab.pool.model.where("VDI", is_a_snapshot=True))


def ways(lab: Lab) -> list[str]:
    return sorted(one.via for one in lab.journal.of(events.DiskTransferred)[-2:])


def test_data_go_after_the_first_delta_by_cbt_and_deltas_go_on(purging: Lab, pool: SimPool) -> None:
    purging.run()
    assert kinds(purging) == ["user", "user"] and len(purging.snapshots()) == 1, "the first run was a full"
    for number in range(4):
        purging.write(0, number << 20, b"x")
        vm = only(purging.run())
        assert vm.deltas == 2 and ways(purging) == ["cbt-nbd", "cbt-nbd"] and not vm.warnings
        assert kinds(purging) == ["cbt_metadata", "cbt_metadata"] and purging.snapshots() == []
        purging.check()
        purging.assert_tidy()
    assert len(purging.journal.of(events.SnapshotDataPurged)) == 4
    calls = [entry.method.removeprefix("Async.") for entry in pool.journal.entries()]
    last = calls[len(calls) - calls[::-1].index("VM.snapshot") :]
    assert last.index("VM.destroy") < last.index("VDI.data_destroy") < last.index("VDI.destroy")


def test_without_the_setting_data_stay(lab: Lab) -> None:
    lab.run()
    lab.write(0, 0, b"x")
    lab.run()
    assert kinds(lab) == ["user", "user"] and not lab.pool.journal.count("VDI.data_destroy")


def test_a_delta_that_came_another_way_keeps_its_data(purging: Lab, pool: SimPool) -> None:
    purging.run()
    purging.write(0, 0, b"x")
    pool.faults.fail_call("VDI.list_changed_blocks", "SR_BACKEND_FAILURE_459", ["", "inconsistent", ""])
    purging.run()
    assert kinds(purging) == ["user", "user"] and len(purging.snapshots()) == 1
    assert "not by cbt-nbd" in purging.journal.of(events.SnapshotDataKept)[-1].reason
    purging.write(0, 0, b"y")
    purging.run()
    assert kinds(purging) == ["cbt_metadata", "cbt_metadata"]
    purging.check()


def test_tracking_lost_after_a_purge_means_a_full_with_its_reason(purging: Lab, pool: SimPool) -> None:
    purging.run()
    purging.run()
    assert kinds(purging) == ["cbt_metadata", "cbt_metadata"]
    for vdi in pool.vdis_of(purging.vm):
        pool.call("VDI.disable_cbt", vdi)
    purging.write(0, 0, b"x")
    vm = only(purging.run())
    assert vm.fulls == 2
    reasons = purging.journal.of(events.FellBackToFull)
    assert {one.why for one in reasons} == {"snapshot-unusable"}
    assert "were purged" in reasons[0].reason and "tracking is off on the disk" in reasons[0].reason
    purging.check()
    purging.write(0, 0, b"y")
    assert only(purging.run()).deltas == 2 and ways(purging) == ["cbt-nbd", "cbt-nbd"]
    purging.check()


def test_a_log_found_bad_during_the_run_means_a_full_when_data_are_purged(purging: Lab, pool: SimPool) -> None:
    purging.run()
    purging.run()
    purging.write(0, 0, b"x")
    pool.faults.fail_call("VDI.list_changed_blocks", "SR_BACKEND_FAILURE_459", ["", "inconsistent", ""], times=2)
    vm = only(purging.run())
    assert vm.fulls == 2 and ways(purging) == ["nbd-full", "nbd-full"]
    assert {one.why for one in purging.journal.of(events.FellBackToFull)} == {"delta-failed"}
    assert kinds(purging) == ["user", "user"]
    purging.check()


def test_a_limit_on_fulls_holds_for_purged_bases(purging: Lab, pool: SimPool) -> None:
    purging.with_settings(unexpected_fulls_max=0)
    purging.run()
    purging.run()
    pool.faults.fail_call("VDI.list_changed_blocks", "SR_BACKEND_FAILURE_459", ["", "inconsistent", ""], times=2)
    assert "unexpectedly" in only(purging.run(expect="failed")).reason
    pool.faults.clear()
    assert only(purging.run()).deltas == 2


def test_a_remote_that_missed_the_run_keeps_everybodys_data(purging: Lab) -> None:
    purging.remotes["off-site"] = MemoryRemote()
    purging.run()
    away, purging.remotes["off-site"] = purging.remotes["off-site"], Unplugged()
    purging.write(0, 0, b"x")
    purging.run(expect="some-failed")
    assert set(kinds(purging)) == {"user"} and "off-site" in purging.journal.of(events.SnapshotDataKept)[-1].reason
    purging.remotes["off-site"] = away
    purging.write(0, 1 << 20, b"y")
    vm = only(purging.run())
    told = purging.journal.of(events.DiskTransferred)
    assert vm.deltas == 2, (vm.ways, vm.warnings, told)
    assert not purging.journal.of(events.FellBackToFull)
    purging.check()


class Unplugged:
    """A remote that answers nothing."""

    url = "unplugged:"

    def __getattr__(self, name: str):
        def refuse(*_args: object, **_fields: object):
            from remotes.errors import Unavailable

            raise Unavailable("unplugged:", "", "unplugged", transient=False)

        return MemoryRemote().capabilities if name == "capabilities" else refuse


@pytest.mark.parametrize(
    ("method", "skip"), [("*VM.destroy", 0), ("*VDI.data_destroy", 0), ("*VDI.data_destroy", 1), ("*VDI.destroy", 0)]
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_purge_cut_off_at_any_step_is_understood_by_the_next_run(
    purging: Lab, pool: SimPool, method: str, skip: int, lost: bool
) -> None:
    purging.run()
    purging.write(0, 0, b"x")
    if lost:
        pool.faults.lose_answer(method, skip=skip, times=1)
    else:
        pool.faults.fail_call(method, "INTERNAL_ERROR", ["the host went down"], skip=skip)
    purging.clock.advance(3600)
    images = {uuid: pool.disk_sha256(ref) for uuid, ref in purging.disks().items()}
    report = only(run_job(purging.job(), purging.world()))
    for remote, point in report.points.items():
        purging.expected[remote, point] = images
    assert report.points, "publishing came first"
    purging.write(0, 1 << 20, b"y")
    vm = only(purging.run())
    assert vm.deltas == 2 and not purging.journal.of(events.FellBackToFull)
    assert kinds(purging) == ["cbt_metadata", "cbt_metadata"]
    purging.check()
    purging.assert_tidy()


def test_a_host_that_lets_go_late_is_waited_for(purging: Lab, pool: SimPool) -> None:
    purging.run()
    purging.write(0, 0, b"x")
    pool.faults.fail_call("VDI.data_destroy", "VDI_IN_USE", ["OpaqueRef:x", "data_destroy"], times=3)
    vm = only(purging.run())
    assert kinds(purging) == ["cbt_metadata", "cbt_metadata"] and not vm.warnings


def done(disk: str, remote: str, via: Via) -> DiskDone:
    return DiskDone(
        live_uuid=disk, disk_name=disk, remote=remote, via=via, base_uuid="b", chain_length=1, result=None
    )


def test_every_disk_must_have_come_by_cbt_to_every_remote() -> None:
    both = [done("a", "nas", Via.CBT), done("a", "far", Via.CBT)]
    assert keep_reason(disks=["a"], done=both, remotes=["nas", "far"], published=["nas", "far"]) == ""
    assert "far" in keep_reason(disks=["a"], done=both, remotes=["nas", "far"], published=["nas"])
    assert "disk b did not come" in keep_reason(
        disks=["a", "b"], done=both, remotes=["nas", "far"], published=["nas", "far"]
    )
    other = [both[0], done("a", "far", Via.LISTED)]
    assert "list-nbd" in keep_reason(disks=["a"], done=other, remotes=["nas", "far"], published=["nas", "far"])


@pytest.mark.parametrize("settings", [{"nbd": NbdUse.OFF}, {"cbt": CbtUse.OFF}])
def test_purging_without_what_it_needs_is_refused(purging: Lab, settings) -> None:
    purging.with_settings(**settings)
    with pytest.raises(UsageError, match="purge_snapshot_data"):
        purging.job()
