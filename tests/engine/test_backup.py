"""Backups end to end: a simulated pool over HTTPS into real repositories, every byte compared."""

from dataclasses import replace

import pytest

from remotes.memory import MemoryRemote
from schedules.retention import Entry, LongTerm, judge
from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.job import DiskRule, Selector, Settings, VmRule
from xobackup.engine.run import plan_job
from xobackup.simpool import SimPool
from xotest.lab import MIB, Lab, only


@pytest.fixture(params=["files", "directories"])
def stored(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    lab.vhd_directory = request.param == "directories"
    lab.on_disk()
    return lab


def test_a_full_then_deltas_then_merges_at_retention(stored: Lab) -> None:
    lab = stored
    workload = lab.pool.workload(lab.vm, seed=1)
    for number in range(6):
        workload.step()
        vm = only(lab.run())
        assert (vm.fulls, vm.deltas) == ((2, 0) if number == 0 else (0, 2))
        lab.check()
        lab.assert_tidy()
    assert len(lab.points()) == 3
    assert len(lab.snapshots()) == 1
    assert lab.journal.of(events.Merged) and not lab.journal.of(events.FellBackToFull)


def test_the_long_term_keeps_the_first_point_of_a_period_and_merges_around_it(stored: Lab) -> None:
    lab = stored
    lab.with_settings(retention=2, long_term=LongTerm(daily=2, weekly=2))
    workload = lab.pool.workload(lab.vm, seed=2)
    for _ in range(9):
        workload.step()
        lab.run(after_s=12 * 3600)
        lab.check()
        lab.assert_tidy()
    kept = judge([Entry(id=p.id, timestamp_ms=p.timestamp_ms) for p in lab.points()], lab.settings.rule)
    assert all(verdict.keep for verdict in kept) and 3 < len(kept) <= 6
    tags = [tag.partition("=")[0] for point in lab.points() for tag in point.tags]
    assert {"daily", "weekly"} <= set(tags) and len(tags) < 2 * len(kept)
    expired = lab.journal.of(events.PointsExpired)
    reasons = {event.reason.partition(", and ")[2] for event in expired}
    assert reasons == {"stands for no day or week that is kept"}


def test_a_run_without_changes_is_an_empty_delta(lab: Lab) -> None:
    lab.run()
    vm = only(lab.run())
    assert vm.deltas == 2 and vm.read_bytes == 0
    lab.check()


def test_two_remotes_are_fed_from_one_export(lab: Lab, pool: SimPool) -> None:
    lab.remotes["off-site"] = MemoryRemote()
    for _ in range(2):
        lab.write(0, MIB, b"changed" * 1000)
        assert set(only(lab.run()).points) == {"nas", "off-site"}
        lab.check()
    transferred = lab.journal.of(events.DiskTransferred)
    assert len(transferred) == 4 and all(set(one.remotes) == {"nas", "off-site"} for one in transferred)


def test_a_remote_that_missed_runs_catches_up_with_a_delta(lab: Lab) -> None:
    lab.remotes["off-site"] = MemoryRemote()
    lab.run()
    away = lab.remotes.pop("off-site")
    lab.remotes["off-site"] = Broken()
    for number in range(2):
        lab.write(0, 0, bytes([number]) * 4096)
        report = lab.run(expect="some-failed")
        assert set(only(report).points) == {"nas"} and "off-site" in report.problems[0]
        lab.check(remotes=("nas",))
    lab.remotes["off-site"] = away
    lab.write(1, 0, b"x" * 4096)
    vm = only(lab.run())
    assert vm.fulls == 0 and not lab.journal.of(events.FellBackToFull)
    lab.check()
    assert len(lab.snapshots()) == 1


class Broken:
    """A remote that answers nothing."""

    url = "broken:"

    def __getattr__(self, name: str):
        def refuse(*_args: object, **_fields: object):
            from remotes.errors import Unavailable

            raise Unavailable("broken:", "", "unplugged", transient=True)

        return MemoryRemote().capabilities if name == "capabilities" else refuse


def test_a_disk_added_grown_renamed_and_removed(stored: Lab, pool: SimPool) -> None:
    lab = stored
    lab.run()
    vdi = pool.vdis_of(lab.vm)[1]
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VDI.resize", vdi, 11 * MIB)
    pool.call("VDI.set_name_label", vdi, "data, grown")
    extra = pool.call("VDI.create", vdi_record("extra", pool.default_sr, 4 * MIB))
    vbd = pool.call("VBD.create", vbd_record(lab.vm, extra, "2"))
    pool.call("VM.start", lab.vm, False, False)
    lab.write(1, 9 * MIB, b"in the new part" * 1000)
    lab.write(2, 0, b"first bytes" * 1000)
    vm = only(lab.run())
    assert (vm.fulls, vm.deltas) == (1, 2)
    lab.check()
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VBD.destroy", vbd)
    pool.call("VM.start", lab.vm, False, False)
    for _ in range(4):  # past retention: what is left of the removed disk goes with its last point
        lab.write(0, 0, b"again")
        lab.run()
        lab.check()
    assert len(lab.points()[-1].disks) == 2
    lab.assert_tidy()


def vdi_record(name: str, sr: str, size: int) -> dict[str, object]:
    return {
        "name_label": name,
        "name_description": "",
        "SR": sr,
        "virtual_size": size,
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }


def vbd_record(vm: str, vdi: str, device: str) -> dict[str, object]:
    return {
        "VM": vm,
        "VDI": vdi,
        "userdevice": device,
        "bootable": False,
        "mode": "RW",
        "type": "Disk",
        "empty": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }


@pytest.mark.parametrize("old_host", [False, True])
def test_disks_marked_nobak_or_excluded_are_not_even_snapshotted(lab: Lab, pool: SimPool, old_host: bool) -> None:
    if old_host:
        object.__setattr__(pool.toolstack, "options", with_old_snapshot(pool))
    pool.call("VDI.set_name_label", pool.vdis_of(lab.vm)[1], "data [NOBAK]")
    lab.run()
    assert [disk.name_label for disk in lab.points()[0].disks] == ["system"]
    snapshot = lab.snapshots()[0]
    held = [
        pool.model.get("VBD", ref)["VDI"] for ref in snapshot["VBDs"] if pool.model.get("VBD", ref)["type"] == "Disk"
    ]
    assert len(held) == 1
    lab.check()


def with_old_snapshot(pool: SimPool):
    return replace(pool.toolstack.options, snapshot_takes_ignore_vdis=False)


def test_a_vm_whose_disks_are_all_excluded_is_skipped(lab: Lab) -> None:
    vm = only(lab.run(expect="skipped", exclude_disks=(DiskRule(),)))
    assert vm.outcome is Outcome.SKIPPED and vm.reason == "all its disks are excluded"
    assert lab.snapshots() == []


def test_a_halted_vm_is_backed_up_too(lab: Lab, pool: SimPool) -> None:
    pool.call("VM.hard_shutdown", lab.vm)
    lab.run()
    lab.check()


def test_a_vm_named_but_not_there_fails_the_run(lab: Lab) -> None:
    selector = Selector(include=(VmRule(uuid="11111111-1111-4111-8111-111111111111"),))
    report = lab.run(expect="failed", selector=selector)
    assert "no pool of this job has a VM" in only(report).reason


def test_no_matching_vm_is_ok_with_nothing_done(lab: Lab) -> None:
    report = lab.run(selector=Selector(include=(VmRule(name="nobody"),)))
    assert report.vms == ()


def test_every_nth_backup_is_full_when_asked(lab: Lab) -> None:
    lab.with_settings(full_interval=2, retention=2)
    kinds = []
    for _ in range(5):
        lab.write(0, 0, b"x")
        vm = only(lab.run())
        kinds.append("full" if vm.fulls else "delta")
    lab.check()
    assert kinds == ["full", "delta", "full", "delta", "full"]
    assert not lab.journal.of(events.FellBackToFull)


def test_a_delta_the_pool_cannot_compute_becomes_a_full_with_its_reason(lab: Lab, pool: SimPool) -> None:
    lab.run()
    base = [ref for ref, vdi in pool.model.records("VDI").items() if vdi["is_a_snapshot"]]
    for ref in base:
        pool.model.get("VDI", ref)["type"] = "cbt_metadata"
    vm = only(lab.run())
    assert vm.fulls == 2
    reasons = lab.journal.of(events.FellBackToFull)
    assert len(reasons) == 2 and {one.why for one in reasons} == {"snapshot-unusable"}
    lab.check()


def test_a_snapshot_somebody_deleted_means_a_full_with_its_reason(lab: Lab, pool: SimPool) -> None:
    lab.run()
    for snapshot in list(pool.model.get("VM", lab.vm)["snapshots"]):
        vdis = pool.vdis_of(snapshot)
        pool.call("VM.destroy", snapshot)
        for vdi in vdis:
            pool.call("VDI.destroy", vdi)
    vm = only(lab.run())
    assert vm.fulls == 2
    assert {one.why for one in lab.journal.of(events.FellBackToFull)} == {"snapshot-gone"}
    lab.check()


def test_restore_points_deleted_on_the_remote_mean_a_full_with_its_reason(lab: Lab) -> None:
    lab.run()
    with lab.repository().lock(lab.vm_uuid) as directory:
        directory.delete_points([point.id for point in directory.points().points])
        directory.merge()
    vm = only(lab.run())
    assert vm.fulls == 2
    assert {one.why for one in lab.journal.of(events.FellBackToFull)} == {"remote-empty"}
    lab.check(finished=False)


def test_the_newest_points_deleted_by_hand_leave_a_delta_possible(lab: Lab) -> None:
    """The remote's newest is older than the pool's newest snapshot: not every such case needs a full."""
    lab.with_settings(bases_max=2, retention=5)
    lab.remotes["late"] = MemoryRemote()
    lab.run()
    lab.write(0, 0, b"second")
    lab.run()
    assert len(lab.snapshots()) == 1
    with lab.repository("late").lock(lab.vm_uuid) as directory:
        directory.delete_points([lab.points("late")[-1].id])
        directory.merge()
    vm = only(lab.run())
    assert (vm.fulls, vm.deltas) == (2, 2), "nas continues, late starts again: its base is gone from the pool"
    lab.check()


def test_too_many_unexpected_fulls_are_refused_before_anything_is_touched(lab: Lab, pool: SimPool) -> None:
    lab.run()
    for snapshot in list(pool.model.get("VM", lab.vm)["snapshots"]):
        pool.call("VM.destroy", snapshot)
    for ref, vdi in list(pool.model.records("VDI").items()):
        if vdi["is_a_snapshot"]:
            pool.call("VDI.destroy", ref)
    lab.with_settings(unexpected_fulls_max=0)
    vm = only(lab.run(expect="failed"))
    assert "unexpectedly" in vm.reason and lab.snapshots() == []


def test_the_plan_says_what_the_run_then_does(lab: Lab) -> None:
    first = plan_job(lab.job(), lab.world())
    assert [route.full.value for disk in first.vms[0].disks for route in disk.routes] == ["first-run"] * 2
    assert lab.snapshots() == [] and lab.points() == []
    lab.run()
    second = plan_job(lab.job(), lab.world())
    bases = {route.base.vdi_uuid for disk in second.vms[0].disks for route in disk.routes}
    assert bases == {disk.vdi_uuid for disk in lab.points()[0].disks}


def test_the_metadata_keeps_what_the_vm_was(lab: Lab, pool: SimPool) -> None:
    pool.call("VM.add_to_blocked_operations", lab.vm, "destroy", "keep me")
    lab.run()
    point = lab.points()[0]
    vm = point.metadata["vm"]
    assert vm["blocked_operations"] == {"destroy": "keep me"}, "our own block must not be restored one day"
    assert vm["name_label"] == "guest" and point.metadata["vmSnapshot"]["is_a_snapshot"]
    vif = next(iter(point.metadata["vifs"].values()))
    assert vif["$network$name_label"] and vif["$network$uuid"] and vif["$network$VLAN"] == -1
    record = next(iter(point.metadata["vdis"].values()))
    assert record["$SR$uuid"] and record["other_config"]["xo:backup:vm"] == lab.vm_uuid
    pool.call("VM.remove_from_blocked_operations", lab.vm, "destroy")
    lab.assert_tidy()


def test_what_others_had_blocked_stays_blocked(lab: Lab, pool: SimPool) -> None:
    pool.call("VM.add_to_blocked_operations", lab.vm, "pool_migrate", "by the admin")
    lab.run()
    assert pool.model.get("VM", lab.vm)["blocked_operations"] == {"pool_migrate": "by the admin"}


def test_two_vms_at_a_time_with_several_disks_each(lab: Lab, pool: SimPool) -> None:
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VM.clone", lab.vm, "twin")
    report = lab.run(selector=Selector(include=(VmRule(name="guest"), VmRule(name="twin"))))
    assert [vm.name for vm in report.vms] == ["guest", "twin"] and report.count(Outcome.OK) == 2
    lab.check()
    lab.assert_tidy()


def test_settings_that_serialise_everything_work_too(lab: Lab) -> None:
    lab.settings = Settings(retention=1, vms_max=1, disks_max=1, buffers_per_disk=2, rate_bytes_s=50_000_000)
    for _ in range(3):
        lab.write(0, MIB, b"x" * 5000)
        lab.run()
        lab.check()
    assert len(lab.points()) == 1


def test_a_job_that_merges_later_begins_no_merge_in_any_run(lab: Lab) -> None:
    lab.with_settings(retention=2, merge_in_run=False)
    for number in range(5):
        lab.write(0, 0, bytes([number]) * 4096)
        lab.run()
    assert len(lab.points()) == 2 and not lab.journal.of(events.Merged)
    waiting = lab.repository().merge_plan(lab.vm_uuid)
    assert waiting.steps and all(step.kind == "merge" for step in waiting.steps)
    lab.check(finished=False)
    lab.with_settings(merge_in_run=True)
    lab.run()
    assert not lab.repository().merge_plan(lab.vm_uuid).steps
    lab.check()
