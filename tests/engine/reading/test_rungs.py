"""Every rung and every step down, through the real client against a pool that offers NBD over TLS."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from remotes import errors
from remotes.memory import MemoryRemote
from xobackup.engine import events
from xobackup.engine.journal import MemoryJournal
from xobackup.engine.reading.ladder import CbtUse, NbdUse
from xobackup.engine.run import plan_job
from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.lab import MIB, SMALL, Lab, only

KIB = 1024


def moved(lab: Lab) -> int:
    """Bytes the pool has sent by NBD so far, once all connections are gone."""
    lab.assert_tidy()
    return sum(entry.args[2] for entry in lab.pool.journal.entries("NBD"))


def ways(lab: Lab) -> list[str]:
    """How the disks of the last run were read."""
    started = max(index for index, event in enumerate(lab.journal.events) if isinstance(event, events.RunStarted))
    return sorted(one.via for one in lab.journal.events[started:] if isinstance(one, events.DiskTransferred))


def stepped(lab: Lab) -> set[tuple[str, str]]:
    return {(one.via, one.to) for one in lab.journal.of(events.SteppedDown)}


def test_the_first_run_reads_by_nbd_and_tracks_changes_so_that_the_second_is_exact(lab: Lab) -> None:
    only(lab.run())
    assert ways(lab) == ["nbd-full", "nbd-full"]
    assert len(lab.journal.of(events.CbtSwitchedOn)) == 2 and not lab.journal.of(events.Warned)
    lab.check()
    lab.write(0, 3 * 64 * KIB + 100, b"x" * 10)
    lab.write(0, 5 * MIB - 5, b"y" * 10)
    lab.write(1, MIB, b"z" * 64 * KIB)
    before = moved(lab)
    vm = only(lab.run())
    assert ways(lab) == ["cbt-nbd", "cbt-nbd"] and vm.vias == ("cbt-nbd",)
    changed = 4 * 64 * KIB
    assert vm.read_bytes == changed and moved(lab) - before <= changed * 1.01
    lab.check()
    lab.assert_tidy()


def test_a_full_leaves_zeros_and_unallocated_blocks_out(lab: Lab) -> None:
    lab.write(0, 6 * MIB, bytes(2 * MIB))
    lab.run()
    stored = {one.disk_name: (one.blocks, one.read_bytes) for one in lab.journal.of(events.DiskTransferred)}
    assert stored == {"system": (3, 8 * MIB), "data": (1, 2 * MIB)}, "zeros were read, but not stored"
    lab.check()


def test_nothing_changed_writes_next_to_nothing(lab: Lab) -> None:
    path = lab.on_disk()
    lab.run()
    known = files(path)
    before = moved(lab)
    vm = only(lab.run())
    assert ways(lab) == ["cbt-nbd", "cbt-nbd"] and vm.read_bytes == 0 and moved(lab) == before
    fresh = {name: size for name, size in files(path).items() if known.get(name) != size}
    disks = [size for name, size in fresh.items() if name.endswith(".vhd")]
    assert len(disks) == 2 and sum(fresh.values()) < 64 * KIB, fresh
    lab.check()


def files(path) -> dict[str, int]:
    return {str(file): file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file()}


def test_what_was_written_again_as_it_was_is_read_but_not_stored(lab: Lab, pool: SimPool) -> None:
    lab.run()
    again = pool.disk_bytes(pool.vdis_of(lab.vm)[0], 0, 100 * KIB)
    lab.write(0, 0, again)
    vm = only(lab.run())
    sent = next(one for one in lab.journal.of(events.DiskTransferred) if one.mode == "delta" and one.read_bytes)
    assert vm.read_bytes == 128 * KIB and sent.blocks == 0
    lab.check()


def test_a_workload_through_many_exact_deltas_and_merges(lab: Lab, pool: SimPool) -> None:
    workload = pool.workload(lab.vm, seed=11)
    for _ in range(5):
        workload.step()
        lab.run()
        lab.check()
    assert ways(lab) == ["cbt-nbd", "cbt-nbd"] and not lab.journal.of(events.SteppedDown)
    with lab.repository().lock(lab.vm_uuid) as directory:
        assert not directory.clean_plan()
    lab.assert_tidy()


@pytest.mark.parametrize("stored", ["files", "directories"])
def test_a_disk_that_grew_is_completed_with_zeros(lab: Lab, pool: SimPool, stored: str) -> None:
    lab.vhd_directory = stored == "directories"
    lab.run()
    vdi = pool.vdis_of(lab.vm)[0]
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VDI.resize", vdi, 16 * MIB)
    pool.call("VM.start", lab.vm, False, False)
    lab.write(0, 7 * MIB, b"old area")
    lab.write(0, 13 * MIB, b"new area")
    lab.run()
    assert "cbt-nbd" in ways(lab)
    lab.check()
    lab.write(0, 15 * MIB, b"newer")
    lab.run()
    assert ways(lab) == ["cbt-nbd", "cbt-nbd"]
    lab.check()


def test_without_tracking_the_block_list_of_the_export_serves(lab: Lab) -> None:
    lab.with_settings(cbt=CbtUse.OFF)
    lab.run()
    lab.write(0, 5 * MIB, b"x")
    vm = only(lab.run())
    assert ways(lab) == ["list-nbd", "list-nbd"] and vm.read_bytes == 2 * MIB
    last = lab.journal.of(events.DiskTransferred)[-1]
    assert last.not_via == ["not cbt-nbd: the job says cbt = off"]
    assert not lab.journal.of(events.CbtSwitchedOn)
    lab.check()
    lab.assert_tidy()


def test_tracking_is_used_but_not_switched_on_when_the_job_says_so(lab: Lab, pool: SimPool) -> None:
    lab.with_settings(cbt=CbtUse.USE)
    pool.call("VDI.enable_cbt", pool.vdis_of(lab.vm)[0])
    lab.run()
    lab.write(0, 0, b"x")
    lab.run()
    assert ways(lab) == ["cbt-nbd", "list-nbd"] and not lab.journal.of(events.CbtSwitchedOn)
    lab.check()


def test_nbd_off_means_streams_and_not_a_single_question(lab: Lab, pool: SimPool) -> None:
    lab.with_settings(nbd=NbdUse.OFF)
    lab.run()
    lab.write(0, 0, b"x")
    lab.run()
    assert ways(lab) == ["stream-delta", "stream-delta"]
    assert not pool.journal.count("NBD") and not pool.journal.count("VDI.get_nbd_info")
    assert not lab.journal.of(events.CbtSwitchedOn)
    lab.check()


def test_a_pool_without_nbd_is_read_as_ever_and_the_plan_says_why(tmp_path) -> None:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as pool:
        lab = Lab(tmp_path, pool)
        lab.run()
        lab.write(0, 0, b"x")
        plan = plan_job(lab.job(), lab.world())
        route = plan.vms[0].disks[0].routes[0]
        assert route.ladder.first == "stream-delta"
        assert {one.reason for one in route.ladder.passed} == {"no network has the purpose nbd or insecure_nbd"}
        lab.run()
        assert ways(lab) == ["stream-delta", "stream-delta"] and not pool.journal.count("VDI.enable_cbt")
        lab.check()


def test_nbd_required_on_a_pool_without_it_is_refused_before_anything_is_touched(tmp_path) -> None:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as pool:
        lab = Lab(tmp_path, pool)
        lab.with_settings(nbd=NbdUse.REQUIRE)
        vm = only(lab.run(expect="failed"))
        assert "nbd = require" in vm.reason and "purpose nbd" in vm.reason
        assert not pool.journal.count("*VM.snapshot")


def test_plain_nbd_only_when_the_job_allows_it(tmp_path) -> None:
    with SimPool.start(tmp_path / "pool", spec=replace(SMALL, nbd="insecure_nbd")) as pool:
        lab = Lab(tmp_path, pool)
        lab.run()
        assert ways(lab) == ["stream-full", "stream-full"] and not pool.journal.count("NBD")
        lab.with_settings(nbd_plain_allowed=True)
        lab.write(0, 0, b"x")
        lab.run()
        assert ways(lab) == ["list-nbd", "list-nbd"], "tracking began after the first snapshot"
        lab.check()


def test_the_plan_names_the_way_the_run_then_takes(lab: Lab) -> None:
    first = plan_job(lab.job(), lab.world())
    assert {route.ladder.first for disk in first.vms[0].disks for route in disk.routes} == {"nbd-full"}
    lab.run()
    second = plan_job(lab.job(), lab.world())
    assert {route.ladder.first for disk in second.vms[0].disks for route in disk.routes} == {"cbt-nbd"}
    json.dumps(lab.journal.of(events.VmPlanned)[0].plan)
    assert lab.journal.of(events.VmPlanned)[0].plan["disks"][0]["routes"][0]["via"] == "nbd-full"


# -- steps down


def test_a_log_that_a_snapshot_lost_is_a_step_down_and_begins_anew(lab: Lab, pool: SimPool) -> None:
    lab.run()
    lab.write(0, 0, b"x")
    lab.write(1, 0, b"x")
    pool.faults.lose_change_log()
    lab.run()
    assert ways(lab) == ["cbt-nbd", "list-nbd"]
    reason = lab.journal.of(events.SteppedDown)[0].reason
    assert reason == "tracking was off when the newer snapshot was taken"
    lab.check()
    lab.write(0, 0, b"y")
    vm = only(lab.run())
    assert ways(lab) == ["cbt-nbd", "list-nbd"], "its base has no log"
    again = [one for one in lab.journal.of(events.CbtSwitchedOn) if one.lost or len(lab.points()) == 3]
    assert len(again) == 1 + 2 and not any("lost" in warning for warning in vm.warnings)
    lab.write(0, 0, b"z")
    lab.run()
    assert ways(lab) == ["cbt-nbd", "cbt-nbd"]
    lab.check()


def test_tracking_lost_in_a_crash_is_said_with_the_pools_reason_and_repaired(lab: Lab, pool: SimPool) -> None:
    lab.run()
    pool.crash_vm(lab.vm)
    pool.call("VM.start", lab.vm, False, False)
    lab.write(0, 0, b"x")
    vm = only(lab.run())
    assert ways(lab) == ["list-nbd", "list-nbd"]
    assert {one.lost.split(" of ")[0] for one in lab.journal.of(events.CbtSwitchedOn)} == {
        "",
        "the pool says VDI_CBT_METADATA_INCONSISTENT",
    }
    assert len(vm.warnings) == 2 and "is on again" in vm.warnings[0]
    lab.check()
    lab.write(0, 0, b"y")
    lab.run()
    assert ways(lab) == ["cbt-nbd", "cbt-nbd"]
    lab.check()


@pytest.mark.parametrize("code", ["SR_BACKEND_FAILURE_459", "SR_BACKEND_FAILURE_460", "VDI_NO_CBT_METADATA"])
def test_changes_that_the_pool_does_not_list_are_a_step_down(lab: Lab, pool: SimPool, code: str) -> None:
    lab.run()
    lab.write(0, 0, b"x")
    pool.faults.fail_call("VDI.list_changed_blocks", code, ["", "bad log", ""])
    lab.run()
    assert ways(lab) == ["cbt-nbd", "list-nbd"] and stepped(lab) == {("cbt-nbd", "list-nbd")}
    lab.check()


def test_nbd_that_breaks_for_good_gives_way_to_the_stream(lab: Lab, pool: SimPool) -> None:
    lab.run()
    lab.write(0, 0, b"x" * MIB)
    pool.faults.break_transfer("nbd", after_bytes=100 * KIB, times=1000)
    report = lab.run()
    assert ways(lab) == ["cbt-nbd", "stream-delta"], "nothing changed on the second disk"
    assert stepped(lab) == {("cbt-nbd", "stream-delta")}
    assert only(report).deltas == 2
    pool.faults.clear()
    lab.check()
    lab.assert_tidy()


def test_a_full_by_nbd_that_breaks_for_good_gives_way_to_the_stream(lab: Lab, pool: SimPool) -> None:
    pool.faults.break_transfer("nbd", after_bytes=100 * KIB, times=1000)
    lab.run()
    assert ways(lab) == ["stream-full", "stream-full"] and stepped(lab) == {("nbd-full", "stream-full")}
    pool.faults.clear()
    lab.check()
    assert not lab.journal.of(events.FellBackToFull), "a first full is no fall"


def test_a_connection_that_breaks_now_and_then_is_made_again_on_the_same_rung(lab: Lab, pool: SimPool) -> None:
    lab.with_settings(nbd_connections=1)
    pool.faults.break_transfer("nbd", after_bytes=MIB)
    lab.run()
    assert ways(lab) == ["nbd-full", "nbd-full"]
    assert any(one.notes for one in lab.journal.of(events.DiskTransferred))
    lab.check()


def test_servers_that_refuse_everybody_give_way_to_the_stream(lab: Lab, pool: SimPool) -> None:
    lab.run()
    network = next(ref for ref, record in pool.model.records("network").items() if record["purpose"])
    lab.write(0, 0, b"x")
    lab.journal = Meddling(lambda: pool.model.update("network", network, purpose=["nbd", "insecure_nbd"]))
    lab.run()
    assert ways(lab) == ["cbt-nbd", "stream-delta"] and stepped(lab) == {("cbt-nbd", "stream-delta")}
    pool.model.update("network", network, purpose=[])
    lab.write(0, 0, b"y")
    lab.journal = Meddling(lambda: None)
    lab.run()
    assert ways(lab) == ["stream-delta", "stream-delta"] and not stepped(lab)
    lab.check()


def test_nbd_that_goes_away_during_the_run_gives_way_to_the_stream(lab: Lab, pool: SimPool) -> None:
    lab.run()
    network = next(ref for ref, record in pool.model.records("network").items() if record["purpose"])
    lab.write(0, 0, b"x")
    lab.journal = Meddling(lambda: pool.model.update("network", network, purpose=[]))
    lab.run()
    assert ways(lab) == ["cbt-nbd", "stream-delta"]
    assert "no server for VDI" in lab.journal.of(events.SteppedDown)[0].reason
    lab.check()


def test_a_base_without_data_and_without_tracking_means_a_full_with_its_reason(lab: Lab, pool: SimPool) -> None:
    lab.with_settings(cbt=CbtUse.OFF)
    lab.run()
    lab.write(0, 0, b"x")
    for ref, _ in list(pool.model.where("VDI", is_a_snapshot=True)):
        pool.model.update("VDI", ref, type="cbt_metadata")
    vm = only(lab.run())
    assert vm.fulls == 2 and ways(lab) == ["nbd-full", "nbd-full"]
    assert {one.why for one in lab.journal.of(events.FellBackToFull)} == {"snapshot-unusable"}
    lab.check()


class Meddling(MemoryJournal):
    """Does something the moment that the plan of a VM is written down."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._meddle = meddle

    def write(self, event: events.Event) -> None:
        super().write(event)
        if isinstance(event, events.VmPlanned):
            self._meddle()


@pytest.mark.parametrize("limit", [None, 0])
def test_a_full_that_turns_out_during_the_transfer_counts_against_the_limit(
    lab: Lab, pool: SimPool, limit: int | None
) -> None:
    lab.with_settings(cbt=CbtUse.OFF, unexpected_fulls_max=limit)
    lab.run()
    lab.write(0, 0, b"x")

    def lose_a_base() -> None:
        base = next(ref for ref, vdi in pool.model.where("VDI", is_a_snapshot=True) if vdi["name_label"] == "system")
        pool.call("VDI.destroy", base)

    lab.journal = Meddling(lose_a_base)
    vm = only(lab.run(expect="ok" if limit is None else "failed"))
    if limit is None:
        assert (vm.fulls, vm.deltas) == (1, 1) and ways(lab) == ["list-nbd", "nbd-full"]
        assert [one.why for one in lab.journal.of(events.FellBackToFull)] == ["delta-failed"]
        assert stepped(lab) == {("list-nbd", "nbd-full")}
    else:
        assert "more than 0 VMs would unexpectedly be transferred whole" in vm.reason
        assert len(lab.snapshots()) == 1 and len(lab.points()) == 1
    lab.check()


# -- several remotes


def test_remotes_with_different_bases_go_by_different_rungs(lab: Lab, pool: SimPool) -> None:
    """One that missed the run in which tracking was lost catches up by the list, the others go on by CBT."""
    lab.remotes["off-site"] = MemoryRemote()
    lab.with_settings(bases_max=3)
    lab.run()
    away = lab.remotes.pop("off-site")
    for vdi in pool.vdis_of(lab.vm):
        pool.call("VDI.disable_cbt", vdi)
    lab.write(0, 0, b"first")
    lab.remotes["off-site"] = Broken(label="broken")
    lab.run(expect="failed")
    lab.remotes["off-site"] = away
    lab.write(0, 5 * MIB, b"second")
    lab.run()
    sent = {(one.disk_name, tuple(one.remotes)): one.via for one in lab.journal.of(events.DiskTransferred)[-4:]}
    assert sent == {
        ("system", ("nas",)): "cbt-nbd",
        ("system", ("off-site",)): "list-nbd",
        ("data", ("nas",)): "cbt-nbd",
        ("data", ("off-site",)): "list-nbd",
    }
    lab.check()


class Broken(MemoryRemote):
    """Every disk begun fails."""

    def create(self, name: str):
        if name.endswith(".part"):
            raise errors.NoSpace("memory:", name, "full")
        return super().create(name)


def test_two_remotes_are_completed_from_one_reading(lab: Lab) -> None:
    lab.remotes["off-site"] = MemoryRemote()
    lab.run()
    lab.write(0, 100 * KIB, b"x")
    before = moved(lab)
    lab.run()
    assert ways(lab) == ["cbt-nbd", "cbt-nbd"] and moved(lab) - before == 64 * KIB
    lab.check()


def test_more_disks_than_a_host_has_connections_wait_for_one_another(tmp_path) -> None:
    disks = tuple(DiskSpec(name=f"disk {n}", size_bytes=2 * MIB, filled_bytes=2 * MIB) for n in range(7))
    spec = PoolSpec(nbd="nbd", vms=(VmSpec(name="guest", disks=disks),))
    with SimPool.start(tmp_path / "pool", spec=spec) as pool:
        lab = Lab(tmp_path, pool)
        lab.with_settings(disks_max=7, nbd_connections=8)
        lab.run()
        assert ways(lab) == ["nbd-full"] * 7 and not lab.journal.of(events.SteppedDown)
        lab.check()


def test_a_disk_that_only_another_host_sees_is_read_there(tmp_path) -> None:
    spec = PoolSpec(
        nbd="nbd",
        hosts=(HostSpec(name="host-1"), HostSpec(name="host-2")),
        srs=(SrSpec(name="here"), SrSpec(name="there", hosts=(1,))),
        vms=(
            VmSpec(
                name="guest",
                power_state="Halted",
                disks=(DiskSpec(name="far", sr="there", size_bytes=8 * MIB, filled_bytes=3 * MIB),),
            ),
        ),
    )
    with SimPool.start(tmp_path / "pool", spec=spec) as pool:
        lab = Lab(tmp_path, pool)
        lab.run()
        pool.write_disk(pool.vdis_of(lab.vm)[0], 0, b"x", force=True)
        lab.run()
        assert [one.via for one in lab.journal.of(events.DiskTransferred)] == ["nbd-full", "cbt-nbd"]
        lab.with_settings(cbt=CbtUse.OFF)
        lab.run()
        assert ways(lab) == ["list-nbd"] and not lab.journal.of(events.SteppedDown)
        lab.check()
