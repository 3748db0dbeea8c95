"""Disks in qcow2, those above 2040 GiB among them: backed up, continued, merged, verified and restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES
from vhd.qcow2 import stream
from xobackup.engine import events
from xobackup.engine.errors import UsageError
from xobackup.engine.reading.ladder import CbtUse, NbdUse
from xobackup.engine.restore.files import Format, restore_to_file
from xobackup.engine.restore.plan import VmRequest
from xobackup.engine.restore.vdi import restore_to_vdi
from xobackup.engine.restore.vm import plan_restore, restore_vm
from xobackup.engine.run import plan_job
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.lab import Lab, only, sparse_sha256
from xotest.qcow2_images import check_image, mapped

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
LAST = 4 * TIB - BLOCK_BYTES
SMALL = 6 * MIB + 64 * 1024
"""No whole number of blocks: qcow2 disks have such sizes."""
SPEC = PoolSpec(
    srs=(SrSpec(name="big", type="nfs", formats=("qcow2",)), SrSpec(name="vhd only")),
    vms=(
        VmSpec(
            name="guest",
            disks=(
                DiskSpec(name="huge", size_bytes=4 * TIB, filled_bytes=3 * MIB),
                DiskSpec(name="small", size_bytes=SMALL, filled_bytes=2 * MIB),
            ),
        ),
    ),
    nbd="nbd",
)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SPEC) as started:
        yield started
        assert not started.faults.unfired()


@pytest.fixture
def lab(tmp_path: Path, pool: SimPool) -> Lab:
    return Lab(tmp_path, pool)


def ways(lab: Lab) -> dict[str, str]:
    """How the disks of the last run were read."""
    started = max(index for index, event in enumerate(lab.journal.events) if isinstance(event, events.RunStarted))
    return {one.disk_name: one.via for one in lab.journal.events[started:] if isinstance(one, events.DiskTransferred)}


def kinds(lab: Lab, remote: str = "nas") -> dict[str, str]:
    """How the disks of the newest point are stored."""
    return {
        disk.name_label: "directory" if disk.path.endswith(".alias.vhd") else "file"
        for disk in lab.points(remote)[-1].disks
    }


def scribble(lab: Lab, number: int) -> None:
    lab.write(0, 0, f"first {number}".encode())
    lab.write(0, 3 * TIB + number * 5 * MIB, f"middle {number}".encode() * 1000)
    lab.write(0, LAST + number, f"last {number}".encode())
    lab.write(1, number * 64 * 1024, f"small {number}".encode())
    lab.write(1, SMALL - 9 - number, b"very end")


@pytest.mark.parametrize("storage", ["memory", "files"])
def test_a_disk_of_4_tib_is_a_directory_and_goes_on_as_exact_deltas(lab: Lab, storage: str) -> None:
    if storage == "files":
        lab.on_disk()
    lab.with_settings(retention=2)
    scribble(lab, 0)
    lab.run()
    assert ways(lab) == {"huge": "nbd-full", "small": "nbd-full"}
    assert kinds(lab) == {"huge": "directory", "small": "file"}
    lab.check()
    for number in (1, 2):
        scribble(lab, number)
        vm = only(lab.run())
        assert ways(lab) == {"huge": "cbt-nbd", "small": "cbt-nbd"}, lab.journal.of(events.SteppedDown)
        assert vm.read_bytes < 8 * MIB
        lab.check()
    assert len(lab.points()) == 2, "the oldest was merged"
    found = lab.repository().verify(lab.vm_uuid)
    assert not found.problems and found.coverage
    lab.assert_tidy()


def test_only_what_is_allocated_is_read(lab: Lab, pool: SimPool) -> None:
    lab.write(0, LAST, b"end")
    only(lab.run())
    huge = next(one for one in lab.journal.of(events.DiskTransferred) if one.disk_name == "huge")
    held = len(pool.read_disk(pool.vdis_of(lab.vm)[0]).block_indexes())
    assert huge.blocks == held and huge.read_bytes == held * BLOCK_BYTES and not huge.notes
    lab.check()


def test_an_empty_disk_of_4_tib(tmp_path: Path) -> None:
    vms = (VmSpec(name="guest", disks=(DiskSpec(name="huge", size_bytes=4 * TIB),)),)
    with SimPool.start(tmp_path / "pool", spec=replace(SPEC, vms=vms)) as pool:
        lab = Lab(tmp_path, pool)
        only(lab.run())
        assert lab.journal.of(events.DiskTransferred)[0].blocks == 0
        lab.check()


def test_directories_where_the_remote_says_so_and_where_it_must_be(lab: Lab) -> None:
    lab.vhd_directory = True
    lab.run()
    assert kinds(lab) == {"huge": "directory", "small": "directory"}
    scribble(lab, 1)
    lab.run()
    assert set(ways(lab).values()) == {"cbt-nbd"}
    lab.check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nbd": NbdUse.OFF}, "disk huge: not nbd-full: the job says nbd = off; not stream-full: a disk of 4096 GiB"),
        ({"nbd": NbdUse.AUTO}, "disk huge: not nbd-full: no network"),
    ],
)
def test_without_nbd_it_is_refused_before_anything_is_touched(
    lab: Lab, pool: SimPool, settings: dict[str, NbdUse], words: str
) -> None:
    lab.with_settings(**settings)
    pool.call("network.remove_purpose", pool.model.refs("network")[0], "nbd")
    calls = len(pool.journal.entries("VM.snapshot")) + len(pool.journal.entries("Async.VM.snapshot"))
    planned = plan_job(lab.job(), lab.world())
    assert planned.vms[0].refusal.startswith(words)
    report = lab.run(expect="failed")
    assert only(report).reason.startswith(words) or words in str(only(report).errors)
    assert calls == len(pool.journal.entries("VM.snapshot")) + len(pool.journal.entries("Async.VM.snapshot"))
    assert not lab.points()


def test_a_disk_larger_than_can_be_stored_is_refused(lab: Lab, pool: SimPool) -> None:
    vdi = pool.vdis_of(lab.vm)[0]
    pool.model.update("VDI", vdi, virtual_size=17 * TIB)
    planned = plan_job(lab.job(), lab.world())
    assert planned.vms[0].refusal == "disk huge: at most 16 TiB can be stored, it has 17408 GiB"


def test_where_changes_cannot_be_had_it_is_a_full_with_the_reason(lab: Lab) -> None:
    lab.with_settings(cbt=CbtUse.OFF)
    lab.run()
    scribble(lab, 1)
    lab.run()
    assert set(ways(lab).values()) == {"nbd-full"}
    fulls = lab.journal.of(events.FellBackToFull)
    assert {one.why for one in fulls} == {"untracked"} and len(fulls) == 2
    assert fulls[0].reason == (
        "the pool computes no deltas of qcow2 disks, and changed blocks cannot be used: the job says cbt = off"
    )
    lab.check()


def test_a_change_log_that_is_lost_leads_to_a_full(lab: Lab, pool: SimPool) -> None:
    lab.run()
    scribble(lab, 1)
    pool.faults.fail_call("VDI.list_changed_blocks", "SR_BACKEND_FAILURE_459", ["", "bad log", ""], times=2)
    lab.run()
    assert set(ways(lab).values()) == {"nbd-full"}
    assert {one.why for one in lab.journal.of(events.FellBackToFull)} == {"delta-failed"}
    lab.check()


def test_a_list_that_breaks_fails_the_vm_and_the_next_run_gets_it(lab: Lab, pool: SimPool) -> None:
    pool.faults.break_transfer("export", after_bytes=70_000, how="drop", times=2)
    report = lab.run(expect="failed")
    assert "I/O error" in str(only(report)), only(report)
    assert not lab.points()
    pool.faults.clear()
    lab.run()
    lab.check()
    lab.assert_tidy()


def test_without_a_list_all_of_it_is_read_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "GAP_MAX_BYTES", -1)  # as if the tables lay between the data
    small = (VmSpec(name="guest", disks=(DiskSpec(name="small", size_bytes=6 * MIB, filled_bytes=MIB),)),)
    with SimPool.start(tmp_path / "pool", spec=replace(SPEC, vms=small)) as pool:
        lab = Lab(tmp_path, pool)
        lab.run()
        (moved,) = lab.journal.of(events.DiskTransferred)
        assert moved.via == "nbd-full" and moved.read_bytes == 6 * MIB and moved.blocks < 3
        assert moved.notes[0].startswith("the pool gives no list of blocks, all of them are read")
        lab.check()


def test_small_ones_come_by_stream_where_there_is_no_nbd(tmp_path: Path) -> None:
    small = (VmSpec(name="guest", disks=(DiskSpec(name="small", size_bytes=6 * MIB, filled_bytes=2 * MIB),)),)
    with SimPool.start(tmp_path / "pool", spec=replace(SPEC, vms=small, nbd="")) as pool:
        lab = Lab(tmp_path, pool)
        lab.run()
        assert ways(lab) == {"small": "stream-full"} and kinds(lab) == {"small": "file"}
        lab.check()


def test_a_disk_that_grows_past_a_file_begins_again_as_a_directory(tmp_path: Path) -> None:
    vms = (VmSpec(name="guest", disks=(DiskSpec(name="grows", size_bytes=2039 * GIB, filled_bytes=MIB),)),)
    with SimPool.start(tmp_path / "pool", spec=replace(SPEC, vms=vms)) as pool:
        lab = Lab(tmp_path, pool)
        lab.with_settings(retention=1)
        lab.run()
        assert kinds(lab) == {"grows": "file"}
        pool.call("VM.hard_shutdown", lab.vm)
        pool.call("VDI.resize", pool.vdis_of(lab.vm)[0], 3 * TIB)
        pool.call("VM.start", lab.vm, False, False)
        lab.write(0, 3 * TIB - 9, b"new area")
        lab.run()
        assert kinds(lab) == {"grows": "directory"}
        (full,) = lab.journal.of(events.FellBackToFull)
        assert full.why == "grown-past-table" and "its chain has room for 2190433320960" in full.reason
        lab.check()
        lab.write(0, 2 * TIB, b"more")
        lab.run()
        assert ways(lab) == {"grows": "cbt-nbd"}
        assert len(lab.points()) == 1


class TestRestore:
    @pytest.fixture
    def backed_up(self, lab: Lab) -> Lab:
        scribble(lab, 1)
        lab.run()
        scribble(lab, 2)
        lab.run()
        return lab

    def test_as_a_new_vm(self, backed_up: Lab, pool: SimPool) -> None:
        world, session = backed_up.world(), backed_up.world().connect(backed_up.address)
        point = backed_up.points()[-1]
        plan = plan_restore(world, session, point, VmRequest(name="back"), remote="nas")
        restored = restore_vm(world, session, backed_up.repository(), plan)
        session.close()
        for live, uuid in restored.disks.items():
            ref = pool.model.by_uuid("VDI", uuid)
            assert pool.model.get("VDI", ref)["sm_config"]["image-format"] == "qcow2"
            with pool.read_disk(ref) as new, pool.read_disk(pool.model.by_uuid("VDI", live)) as old:
                assert sparse_sha256(new) == sparse_sha256(old)
        sent = [entry.args for entry in pool.journal.entries("PUT /import_raw_vdi")]
        assert {args[1] for args in sent} == {"qcow2"} and max(args[2] for args in sent) < 64 * MIB
        assert restored.unchecked == 0
        backed_up.assert_tidy()

    def test_an_sr_that_keeps_vhds_only_is_refused_before_anything_is_made(
        self, backed_up: Lab, pool: SimPool
    ) -> None:
        world, session = backed_up.world(), backed_up.world().connect(backed_up.address)
        before = set(pool.model.refs("VM")), set(pool.model.refs("VDI"))
        request = VmRequest(name="back", sr="vhd only")
        words = "disk huge: 4096 GiB are more than a VHD holds .* and SR vhd only takes no qcow2 disks"
        with pytest.raises(UsageError, match=words) as caught:
            plan_restore(world, session, backed_up.points()[-1], request, remote="nas")
        assert caught.value.hint == "name an SR that does; in this pool: big"
        leaving_out = VmRequest(name="back", sr="vhd only", disk_srs={"huge": None})
        plan = plan_restore(world, session, backed_up.points()[-1], leaving_out, remote="nas")
        assert [one.disk.name_label for one in plan.disks] == ["small"]
        assert before == (set(pool.model.refs("VM")), set(pool.model.refs("VDI")))
        restored = restore_vm(world, session, backed_up.repository(), plan)
        session.close()
        (uuid,) = restored.disks.values()
        vdi = pool.model.by_uuid("VDI", uuid)
        assert "image-format" not in pool.model.get("VDI", vdi)["sm_config"], "a small one may become a VHD"
        assert pool.disk_bytes(vdi) == pool.disk_bytes(pool.vdis_of(backed_up.vm)[1]).ljust(8 * MIB, b"\0")

    def test_a_small_one_into_an_existing_qcow2_disk(self, backed_up: Lab, pool: SimPool) -> None:
        world, session = backed_up.world(), backed_up.world().connect(backed_up.address)
        record = {"SR": pool.sr_named("big"), "virtual_size": 8 * MIB, "type": "user", "sharable": False}
        target = pool.call("VDI.create", {**record, "read_only": False, "other_config": {}, "name_label": "old"})
        pool.write_disk(target, 0, b"old content" * 1000, force=True)
        pool.write_disk(target, 7 * MIB, b"past the end", force=True)
        point = backed_up.points()[-1]
        disk = next(one for one in point.disks if one.name_label == "small")
        uuid = pool.model.get("VDI", target)["uuid"]
        restore_to_vdi(world, session, backed_up.repository(), point, disk, vdi_uuid=uuid)
        session.close()
        assert pool.disk_bytes(target) == pool.disk_bytes(pool.vdis_of(backed_up.vm)[1]).ljust(8 * MIB, b"\0")
        assert pool.journal.entries("PUT /import_raw_vdi")[-1].args[1] == "qcow2"

    def test_to_a_file(self, backed_up: Lab, tmp_path: Path, pool: SimPool) -> None:
        point = backed_up.points()[-1]
        huge = next(one for one in point.disks if one.name_label == "huge")
        world, repository = backed_up.world(), backed_up.repository()
        path = tmp_path / "huge.qcow2"
        restore_to_file(world, repository, point, huge, path, format=Format.QCOW2)
        check_image(path)
        assert path.stat().st_size < 8 * MIB, "clusters of zeros are not stored"
        with pool.read_disk(pool.vdis_of(backed_up.vm)[0]) as disk:
            for start, length in mapped(path):
                assert any(disk.read(start, length))
        raw = tmp_path / "huge.raw"
        restore_to_file(world, repository, point, huge, raw)
        assert raw.stat().st_size == 4 * TIB and raw.stat().st_blocks * 512 < 32 * MIB
        with pytest.raises(UsageError, match="its 4096 GiB do not fit into a VHD, which holds 2040 GiB at most"):
            restore_to_file(world, repository, point, huge, tmp_path / "huge.vhd", format=Format.VHD)
        assert sorted(one.name for one in tmp_path.glob("*huge*")) == ["huge.qcow2", "huge.raw"]


def test_two_remotes_one_of_them_of_directories(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    lab.remotes = {"nas": MemoryRemote(clock=lab.clock), "usb": LocalRemote(tmp_path / "second")}
    lab.run()
    scribble(lab, 1)
    lab.run()
    assert kinds(lab, "usb")["huge"] == kinds(lab)["huge"] == "directory"
    lab.check()
