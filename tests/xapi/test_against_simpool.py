"""The client against the simulated pool: real VHD trees over real HTTPS."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vhd.block import BLOCK_BYTES, BufferPool, runs
from vhd.errors import StreamError
from vhd.stream import VhdStream
from xobackup.clock import SystemClock
from xobackup.simpool.pool import SimPool
from xobackup.simpool.spec import MIB, DiskSpec, PoolSpec, VmSpec
from xobackup.xapi import errors, leftovers, other_config
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.events import wait_for
from xobackup.xapi.failures import full_needed
from xobackup.xapi.inventory import Inventory
from xobackup.xapi.session import Session
from xobackup.xapi.timeouts import Timeouts
from xobackup.xapi.tls import Ca, Fingerprint
from xobackup.xapi.transfer import open_export, open_import
from xotest.scripted_xapi import QUICK

TIMES = dataclasses.replace(QUICK, call_s=20.0, first_byte_s=20.0, idle_s=20.0, task_end_s=20.0, task_s=20.0)
SPEC = PoolSpec(
    vms=(
        VmSpec(
            name="web",
            disks=(
                DiskSpec(name="system", size_bytes=24 * MIB, filled_bytes=7 * MIB),
                DiskSpec(name="data", size_bytes=17 * MIB, filled_bytes=3 * MIB),
            ),
            cd_drive=True,
        ),
    )
)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SPEC) as running:
        yield running
        assert running.faults.unfired() == []


def address(pool: SimPool, timeouts: Timeouts = TIMES) -> PoolAddress:
    pin = Fingerprint(pool.fingerprint_sha256)
    return PoolAddress(url=pool.url, username=pool.username, password=pool.password, tls=pin, timeouts=timeouts)


@pytest.fixture
def session(pool: SimPool) -> Iterator[Session]:
    with Session.connect(address(pool), clock=SystemClock()) as connected:
        yield connected


def snapshot(session: Session, pool: SimPool) -> tuple[str, list[str]]:
    """A snapshot of the VM: its reference and its disks."""
    snap = session.call_async("VM.snapshot", pool.vm_named("web"), "a snapshot")
    assert snap is not None
    return snap, pool.vdis_of(snap)


def download(session: Session, vdi: str, base: str | None = None) -> bytes:
    """The whole stream of an export."""
    stream = bytearray()
    buffer = bytearray(1 << 20)
    with open_export(session, vdi, base_ref=base) as export:
        while count := export.readinto(memoryview(buffer)):
            stream += buffer[:count]
        export.finish()
    return bytes(stream)


def reader(stream: bytes) -> Callable[[memoryview], int]:
    position = 0

    def read(view: memoryview) -> int:
        nonlocal position
        part = stream[position : position + len(view)]
        view[: len(part)] = part
        position += len(part)
        return len(part)

    return read


def applied(stream: bytes, onto: bytes = b"") -> bytes:
    """What a disk holds after the stream was written onto it."""
    parsed = VhdStream(reader(stream), name="stream")
    parsed.begin()
    size = parsed.virtual_size_bytes
    disk = bytearray(onto.ljust(-(-size // BLOCK_BYTES) * BLOCK_BYTES, b"\0"))
    buffers = BufferPool(2)
    for block in parsed.blocks(buffers):
        for first, count in runs(block.bitmap):
            at = block.index * BLOCK_BYTES + first * 512
            disk[at : at + count * 512] = block.buffer.data[first * 512 : (first + count) * 512]
        buffers.release(block.buffer)
    return bytes(disk[:size])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_pools_certificate_can_be_used_as_ca(pool: SimPool) -> None:
    with Session.connect(dataclasses.replace(address(pool), tls=Ca(pool.ca_pem_path)), clock=SystemClock()) as one:
        assert one.has_method("VM.snapshot")


def test_a_wrong_password_is_a_login_error(pool: SimPool) -> None:
    with pytest.raises(errors.LoginError):
        Session.connect(dataclasses.replace(address(pool), password="wrong"), clock=SystemClock())


def test_the_inventory_has_the_vm_with_its_disks(pool: SimPool, session: Session) -> None:
    inventory = Inventory.fetch(session)
    (vm,) = inventory.ordinary_vms()
    assert vm.ref == pool.vm_named("web")
    assert [disk.vdi.ref for disk in inventory.disks(vm)] == pool.vdis_of(vm.ref)
    assert [disk.vdi.name_label for disk in inventory.disks(vm)] == ["system", "data"]
    assert inventory.sr_of(inventory.disks(vm)[0].vdi).ref == pool.default_sr
    assert inventory.nics(vm)
    assert len(inventory.control_domains()) == len(inventory.hosts)
    _, disks = snapshot(session, pool)
    later = Inventory.fetch(session)
    (snap,) = later.snapshots_of(later.vms[vm.ref])
    assert [disk.vdi.ref for disk in later.disks(snap)] == disks
    assert [later.vdis[ref].snapshot_of for ref in disks] == pool.vdis_of(vm.ref)


def test_a_full_and_a_delta_give_the_snapshots_bytes(pool: SimPool, session: Session) -> None:
    workload = pool.workload(pool.vm_named("web"), seed=7)
    workload.steps(3)
    _, first = snapshot(session, pool)
    workload.steps(3)
    _, second = snapshot(session, pool)
    workload.steps(2)
    for older, newer in zip(first, second, strict=True):
        full = applied(download(session, older))
        assert sha256(full) == pool.disk_sha256(older) == pool.expected_sha256(older)
        delta = download(session, newer, base=older)
        assert len(delta) < len(download(session, newer))
        assert sha256(applied(delta, full)) == pool.expected_sha256(newer)


def test_an_import_and_a_delta_on_top_give_the_same_disk(pool: SimPool, session: Session) -> None:
    workload = pool.workload(pool.vm_named("web"), seed=8)
    _, (older, *_) = snapshot(session, pool)
    workload.steps(4)
    _, (newer, *_) = snapshot(session, pool)
    record = session.record("VDI", older)
    wanted = ("virtual_size", "type", "sharable", "read_only", "SR")
    new = {**{name: record[name] for name in wanted}, "name_label": "restored", "other_config": {}}
    target = session.call_async("VDI.create", new)
    assert target is not None
    for stream, expected in ((download(session, older), older), (download(session, newer, older), newer)):
        with open_import(session, target, length_bytes=len(stream)) as running:
            for at in range(0, len(stream), 1_000_003):
                running.write(memoryview(stream)[at : at + 1_000_003])
            assert running.finish() == target
        assert pool.disk_sha256(target) == pool.disk_sha256(expected)


def test_a_base_that_is_gone_asks_for_a_full(pool: SimPool, session: Session) -> None:
    _, (older, *_) = snapshot(session, pool)
    _, (newer, *_) = snapshot(session, pool)
    uuid = session.record("VDI", older)["uuid"]
    session.call_async("VDI.destroy", older)
    with pytest.raises(errors.XapiError) as caught:
        download(session, newer, base=older)
    assert full_needed(caught.value, base=(older, uuid))


@pytest.mark.parametrize("after_bytes", [0, 1000, 3_000_000])
def test_an_error_inside_the_body_is_the_tasks_error(pool: SimPool, session: Session, after_bytes: int) -> None:
    _, (disk, *_) = snapshot(session, pool)
    pool.faults.break_transfer("export", after_bytes=after_bytes, how="error")
    with pytest.raises((errors.XapiFailure, errors.TransferError)):
        parse(session, disk)
    assert session.records("task") == {}


@pytest.mark.parametrize("how", ["drop", "end", "lie"])
def test_an_export_cut_short_is_never_good(pool: SimPool, session: Session, how: str) -> None:
    _, (disk, *_) = snapshot(session, pool)
    pool.faults.break_transfer("export", after_bytes=3_000_000, how=how)
    with pytest.raises((errors.XapiError, StreamError)):
        parse(session, disk)
    assert session.records("task") == {}


def parse(session: Session, disk: str) -> None:
    buffers = BufferPool(2)
    with open_export(session, disk) as export:
        stream = VhdStream(export.readinto, name="export")
        stream.begin()
        for block in stream.blocks(buffers):
            buffers.release(block.buffer)
        export.finish()


@pytest.mark.parametrize("how", ["error", "drop"])
def test_an_import_that_breaks_is_never_good(pool: SimPool, session: Session, how: str) -> None:
    _, (disk, *_) = snapshot(session, pool)
    stream = download(session, disk)
    target = session.call_async("VDI.copy", disk, pool.default_sr)
    assert target is not None
    pool.faults.break_transfer("import", after_bytes=1_000_000, how=how)
    with pytest.raises(errors.XapiError), open_import(session, target, length_bytes=len(stream)) as running:
        for at in range(0, len(stream), 1 << 20):
            running.write(memoryview(stream)[at : at + (1 << 20)])
        running.finish()


def test_a_toolstack_restart_costs_a_login_not_the_run(pool: SimPool, session: Session) -> None:
    pool.restart_toolstack()
    _, (disk, *_) = snapshot(session, pool)
    assert sha256(applied(download(session, disk))) == pool.disk_sha256(disk)


def test_a_session_that_ends_just_before_the_export_is_renewed(pool: SimPool, session: Session) -> None:
    _, (disk, *_) = snapshot(session, pool)
    session.call("session.logout")
    assert sha256(applied(download(session, disk))) == pool.disk_sha256(disk)


def test_a_lost_answer_to_a_changing_call_is_said_to_be_unknown(pool: SimPool, session: Session) -> None:
    pool.faults.lose_answer("VM.add_tags")
    with pytest.raises(errors.ConnectionLost) as caught:
        session.call("VM.add_tags", pool.vm_named("web"), "tagged")
    assert caught.value.outcome_unknown
    assert "tagged" in pool.model.get("VM", pool.vm_named("web"))["tags"]


def test_a_lost_answer_to_a_call_that_sets_a_value_is_asked_again(pool: SimPool, session: Session) -> None:
    vm = pool.vm_named("web")
    pool.faults.lose_answer("VM.set_name_label")
    session.call("VM.set_name_label", vm, "renamed")
    assert pool.vm_named("renamed") == vm and pool.journal.count("VM.set_name_label") == 2


def test_a_lost_answer_to_a_reading_call_is_asked_again(pool: SimPool, session: Session) -> None:
    pool.faults.lose_answer("VM.get_uuid")
    assert session.call("VM.get_uuid", pool.vm_named("web"))


def test_leftovers_of_a_transfer_are_removed(pool: SimPool, session: Session) -> None:
    _, (disk, *_) = snapshot(session, pool)
    before = leftovers.vbds_of(session, disk)
    pool.faults.linger("export", 30.0)
    download(session, disk)
    assert len(leftovers.release(session, disk, before=before, wait_s=0)) == 1
    assert leftovers.vbds_of(session, disk) == before


def test_operations_are_blocked_and_keys_kept_in_snapshots(pool: SimPool, session: Session) -> None:
    vm = pool.vm_named("web")
    other_config.set_keys(session, "VM", vm, {other_config.JOB: "job"})
    other_config.block_operations(session, vm)
    assert "pool_migrate" not in session.record("VM", vm)["allowed_operations"]
    snap, _ = snapshot(session, pool)
    assert session.record("VM", snap)["other_config"][other_config.JOB] == "job"
    assert other_config.unblock_operations(session, vm) == list(other_config.MIGRATIONS)
    assert session.record("VM", vm)["blocked_operations"] == {}
    other_config.block_operations(session, vm, ["snapshot"])
    with pytest.raises(errors.OperatorProblem, match=other_config.BLOCK_REASON):
        snapshot(session, pool)


def test_a_change_is_seen_as_an_event(pool: SimPool, session: Session) -> None:
    vm = pool.vm_named("web")
    timer = threading.Timer(0.1, pool.call, ["VM.set_name_label", vm, "renamed"])
    timer.start()
    event = wait_for(
        session, [f"VM/{vm}"], lambda e: e.record is not None and e.record["name_label"] == "renamed", 20
    )
    timer.join()
    assert event.ref == vm


def test_hosts_of_before_7_3_speak_another_shape_of_failure(tmp_path: Path) -> None:
    from xobackup.simpool.options import Options

    with SimPool.start(tmp_path / "old", spec=SPEC, options=Options(old_error_shape=True)) as pool:
        session = Session.connect(address(pool), clock=SystemClock())
        with session, pytest.raises(errors.NotFound) as caught:
            session.record("VM", "OpaqueRef:none")
        assert caught.value.code == "HANDLE_INVALID"
