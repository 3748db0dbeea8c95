from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from xobackup.xapi import errors
from xobackup.xapi.session import Session
from xobackup.xapi.transfer import VdiExport, open_export, open_import
from xotest.scripted_xapi import QUICK, Drop, Request, ScriptedXapi

DISK = b"conectix" + bytes(range(256)) * 9000 + b"conectix"


class GarbageError(Exception):
    """What a reader of VHDs would raise."""


def serve(data: bytes = DISK, *, error: list[str] | None = None, inner: str = "", end_task: bool = True) -> object:
    """An export handler: 200, ``data``, maybe a second answer inside the body, then the task's end."""

    def handler(request: Request) -> None:
        request.ok()
        request.send(data)
        if inner:
            request.inner_500(inner)
        if end_task:
            request.host.end_task(request.task, error=error)

    return handler


def take(export: VdiExport, size: int = len(DISK)) -> bytes:
    data = bytearray(size)
    count = export.readinto(memoryview(data))
    return bytes(data[:count])


def read_whole(session: Session) -> None:
    """A reader that notices when something is missing (a reset over TLS may look like a plain end)."""
    with open_export(session, "OpaqueRef:vdi") as export:
        if take(export) != DISK:
            raise GarbageError("truncated")
        export.finish()


# --- exports


def test_a_whole_export_with_a_successful_task_is_good(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve()]
    with open_export(session, "OpaqueRef:vdi", task_label="my export") as export:
        assert take(export) == DISK
        assert export.progress == len(DISK)
        export.finish()
    assert host.tasks == {}
    assert host.called("task.create")[0][1:] == ["my export", "xobackup"]
    assert host.called("task.cancel") == []


def test_small_buffers_get_the_same_bytes(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve()]
    with open_export(session, "OpaqueRef:vdi") as export:
        parts = []
        while part := take(export, 70_001):
            parts.append(part)
        export.finish()
    assert b"".join(parts) == DISK


def test_the_task_may_end_after_the_connection(host: ScriptedXapi, session: Session) -> None:
    def late(request: Request) -> None:
        request.ok()
        request.send(DISK)
        threading.Timer(0.2, host.end_task, [request.task]).start()

    host.transfers = [late]
    with open_export(session, "OpaqueRef:vdi") as export:
        take(export)
        export.finish()


def test_a_task_that_failed_makes_a_whole_export_bad(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(error=["VDI_IO_ERROR", "Device I/O errors"])]
    with open_export(session, "OpaqueRef:vdi") as export:
        take(export)
        with pytest.raises(errors.HostTrouble, match="VDI_IO_ERROR"):
            export.finish()
    assert host.tasks == {}


def test_a_task_that_never_ends_makes_it_unknown(host: ScriptedXapi) -> None:
    host.transfers = [serve(end_task=False)]
    with host.connect(timeouts=dataclasses.replace(QUICK, task_end_s=0.2)) as session:
        export = open_export(session, "OpaqueRef:vdi")
        with pytest.raises(errors.TransferBroken, match=r"0\.2 s") as caught, export:
            take(export)
            export.finish()
    assert caught.value.outcome_unknown
    assert host.tasks == {}


def test_a_task_that_vanished_makes_it_unknown(host: ScriptedXapi, session: Session) -> None:
    def forget(request: Request) -> None:
        request.ok()
        request.send(DISK)
        host.drop_task(request.task)

    host.transfers = [forget]
    with open_export(session, "OpaqueRef:vdi") as export:
        take(export)
        with pytest.raises(errors.OutcomeUnknown):
            export.finish()


def test_a_second_answer_at_the_start_of_the_body_is_the_error(host: ScriptedXapi, session: Session) -> None:
    failed = ["VDI_TOO_LARGE", "OpaqueRef:vdi", "2190433320960"]
    host.transfers = [serve(b"", inner="boom", error=failed)]
    with pytest.raises(errors.OperatorProblem, match="VDI_TOO_LARGE"):
        open_export(session, "OpaqueRef:vdi")
    assert host.tasks == {}


def test_without_a_task_that_says_more_the_second_answer_is_quoted(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(b"", inner="boom", end_task=False)]
    with pytest.raises(errors.TransferRefused, match="boom") as caught:
        open_export(session, "OpaqueRef:vdi")
    assert caught.value.status == 500


def test_a_missing_base_found_after_the_200_asks_for_a_full(host: ScriptedXapi, session: Session) -> None:
    from xobackup.xapi.failures import full_needed

    failed = ["UUID_INVALID", "VDI", "base-uuid"]
    host.transfers = [serve(b"", inner="boom", error=failed)]
    with pytest.raises(errors.NotFound) as caught:
        open_export(session, "OpaqueRef:vdi", base_ref="OpaqueRef:base")
    assert full_needed(caught.value, base=["OpaqueRef:base", "base-uuid"])


def test_a_second_answer_at_the_end_is_the_error(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(inner="late trouble", end_task=False)]
    with open_export(session, "OpaqueRef:vdi") as export:
        take(export)
        with pytest.raises(errors.TransferRefused, match="late trouble"):
            export.finish()


def test_bytes_after_the_end_are_an_error(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(DISK + b"x" * 10)]
    with open_export(session, "OpaqueRef:vdi") as export:
        take(export)
        with pytest.raises(errors.TransferBroken, match="10 bytes follow"):
            export.finish()


def test_a_body_cut_short_ends_early_and_the_task_explains(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(DISK[:5000], error=["VDI_IO_ERROR", "Device I/O errors"])]
    with open_export(session, "OpaqueRef:vdi") as export:
        assert take(export) == DISK[:5000]
        assert isinstance(export.explain(), errors.HostTrouble)


def test_a_reader_that_finds_garbage_gets_the_tasks_reason(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(DISK[:5000], error=["VDI_IO_ERROR", "Device I/O errors"])]
    with pytest.raises(errors.HostTrouble, match="VDI_IO_ERROR") as caught:
        read_whole(session)
    assert isinstance(caught.value.__cause__, GarbageError)


def test_an_error_of_the_readers_own_stays_what_it_is(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(end_task=False)]
    with pytest.raises(GarbageError), open_export(session, "OpaqueRef:vdi") as export:
        take(export, 100)
        raise GarbageError("the disk here is full")
    assert host.tasks == {}
    assert len(host.called("task.cancel")) == 1


def test_a_reset_in_the_middle_gives_the_tasks_reason(host: ScriptedXapi, session: Session) -> None:
    def die(request: Request) -> None:
        request.ok()
        request.send(DISK[:100_000])
        host.end_task(request.task, error=["SR_BACKEND_FAILURE_47", "", "The SR is not available", ""])
        request.reset()

    host.transfers = [die]
    with pytest.raises(errors.Busy, match="SR is not available"):
        read_whole(session)


def test_a_reset_nobody_explains_may_be_tried_again(host: ScriptedXapi, session: Session) -> None:
    def die(request: Request) -> None:
        request.ok()
        request.send(DISK[:100_000])
        request.reset()

    host.transfers = [die]
    with pytest.raises(errors.TransferBroken) as caught:
        read_whole(session)
    assert caught.value.transient
    assert host.tasks == {}


def test_a_slow_first_byte_is_waited_for(host: ScriptedXapi, session: Session) -> None:
    gate = threading.Event()

    def slow(request: Request) -> None:
        request.ok()
        gate.wait(5)
        request.send(DISK)
        host.end_task(request.task)

    host.transfers = [slow]
    threading.Timer(0.2, gate.set).start()
    with open_export(session, "OpaqueRef:vdi") as export:
        assert take(export) == DISK
        export.finish()


def test_silence_in_the_middle_is_an_error(host: ScriptedXapi) -> None:
    gate = threading.Event()

    def stall(request: Request) -> None:
        request.ok()
        request.send(DISK[:1000])
        gate.wait(5)

    host.transfers = [stall]
    impatient = dataclasses.replace(QUICK, idle_s=0.1)
    with host.connect(timeouts=impatient) as session, open_export(session, "OpaqueRef:vdi") as export:
        with pytest.raises(errors.TransferBroken, match=r"silence for 0\.1 s"):
            take(export)
        gate.set()
    gate.set()
    assert host.tasks == {}


def test_a_body_of_nothing_ends_at_once(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(b"")]
    with open_export(session, "OpaqueRef:vdi") as export:
        assert take(export) == b""


def test_cancel_from_another_thread_wakes_the_reader(host: ScriptedXapi, session: Session) -> None:
    gate = threading.Event()

    def stall(request: Request) -> None:
        request.ok()
        request.send(DISK[:1000])
        gate.wait(5)

    host.transfers = [stall]
    began = time.monotonic()
    with open_export(session, "OpaqueRef:vdi") as export:
        threading.Timer(0.1, export.cancel).start()
        with pytest.raises(errors.TransferCancelled):
            take(export)
        with pytest.raises(errors.TransferCancelled):
            take(export)
    gate.set()
    assert time.monotonic() - began < QUICK.idle_s
    assert host.tasks == {}
    assert len(host.called("task.cancel")) == 1


def test_ctrl_c_ends_the_task(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(end_task=False)]
    with pytest.raises(KeyboardInterrupt), open_export(session, "OpaqueRef:vdi"):
        raise KeyboardInterrupt
    assert host.tasks == {}
    assert len(host.called("task.cancel")) == 1


def test_a_stop_is_noticed_while_the_host_attaches_the_disk(host: ScriptedXapi, session: Session) -> None:
    gate, stop = threading.Event(), threading.Event()

    def attaching(request: Request) -> None:
        request.ok()
        gate.wait(5)

    host.transfers = [attaching]
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(errors.TransferCancelled):
        open_export(session, "OpaqueRef:vdi", should_stop=stop.is_set)
    gate.set()
    assert host.tasks == {}
    assert len(host.called("task.cancel")) == 1


def test_a_stop_is_noticed_before_the_answer(host: ScriptedXapi, session: Session) -> None:
    gate = threading.Event()
    host.transfers = [lambda request: gate.wait(5)]
    with pytest.raises(errors.TransferCancelled):
        open_import(session, "OpaqueRef:vdi", length_bytes=4, should_stop=lambda: True)
    gate.set()
    assert host.tasks == {}


def test_asking_to_stop_does_not_disturb_an_export(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve()]
    with open_export(session, "OpaqueRef:vdi", should_stop=lambda: False) as export:
        assert take(export) == DISK
        export.finish()


def test_cancel_is_noticed_while_the_task_ends(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(end_task=False)]
    with open_export(session, "OpaqueRef:vdi") as export:
        take(export)
        threading.Timer(0.1, export.cancel).start()
        with pytest.raises(errors.TransferCancelled):
            export.finish()
    assert host.tasks == {}


def test_tidying_up_does_not_wait_for_a_host_that_is_gone(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(end_task=False)]
    with pytest.raises(GarbageError), open_export(session, "OpaqueRef:vdi") as export:
        take(export, 100)
        asked = len(host.calls)
        host.queue("event.from", *[Drop()] * 50)
        host.queue("task.get_record", *[Drop()] * 50)
        raise GarbageError("the disk here is full")
    tidying = [name for name, _params in host.calls[asked:] if name == "task.get_record"]
    assert len(tidying) <= QUICK.reconnect_tries + 1


def test_a_throttle_is_told_every_byte(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve()]
    told: list[int] = []
    with open_export(session, "OpaqueRef:vdi", throttle=told.append) as export:
        while take(export, 100_000):
            pass
        export.finish()
    assert sum(told) == len(DISK)


# --- imports


def receive(got: list[bytes], *, error: list[str] | None = None) -> object:
    """An import handler: 200 before the body, then all of it, then the task's end."""

    def handler(request: Request) -> None:
        request.ok()
        got.append(request.body())
        if request.task:
            result = "<value>OpaqueRef:vdi</value>"
            request.host.end_task(request.task, result=result, error=error)

    return handler


def test_an_import_probes_then_sends_with_a_length(host: ScriptedXapi, session: Session) -> None:
    got: list[bytes] = []
    host.transfers = [receive(got)]
    with open_import(session, "OpaqueRef:vdi", length_bytes=len(DISK)) as running:
        buffer = bytearray(DISK[:1000])
        running.write(buffer)
        buffer[:] = bytes(1000)  # the caller may reuse it
        running.write(memoryview(DISK)[1000:])
        assert running.finish() == "OpaqueRef:vdi"
        assert running.progress == len(DISK)
    assert got == [b"", DISK]
    probe, real = (request for request in host.requests if request.method == "PUT")
    assert (probe.task, probe.length) == (None, 0)
    assert real.length == len(DISK)
    assert real.query["vdi"] == "OpaqueRef:vdi"
    assert "transfer-encoding" not in real.headers
    assert host.tasks == {}


def test_the_probe_learns_the_host(host: ScriptedXapi, tmp_path: Path) -> None:
    from xobackup.clock import SystemClock

    (tmp_path / "other").mkdir()
    got: list[bytes] = []
    with ScriptedXapi(tmp_path / "other") as other:

        def elsewhere(request: Request) -> None:
            request.ok()
            got.append(request.body())
            host.end_task(request.task)

        def away(request: Request) -> None:
            request.send(f"HTTP/1.1 302 Found\r\nLocation: {other.url}/import_raw_vdi\r\n\r\n".encode())

        other.transfers, host.transfers = [elsewhere], [away]
        address = host.address()
        both = type(address.tls)(f"{other.certificate.sha256} {host.certificate.sha256}")
        address = dataclasses.replace(address, tls=both)
        session = Session.connect(address, clock=SystemClock())
        with session, open_import(session, "OpaqueRef:vdi", length_bytes=4) as running:
            running.write(b"disk")
            assert running.finish() is None
    assert got == [b"", b"disk"]
    assert len([request for request in host.requests if request.method == "PUT"]) == 1


def test_a_failed_task_makes_an_import_bad(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [receive([], error=["VDI_IO_ERROR", "Device I/O errors"])]
    with open_import(session, "OpaqueRef:vdi", length_bytes=4) as running:
        running.write(b"disk")
        with pytest.raises(errors.HostTrouble):
            running.finish()


def refuse_put(error: list[str]) -> object:
    def handler(request: Request) -> None:
        if not request.task:
            request.ok()
            return
        request.host.end_task(request.task, error=error)
        request.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    return handler


def test_a_put_refused_early_gives_the_tasks_reason(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [refuse_put(["VDI_IN_USE", "OpaqueRef:vdi", "import"])]
    with pytest.raises(errors.Busy):
        open_import(session, "OpaqueRef:vdi", length_bytes=4)
    assert host.tasks == {}


def test_a_connection_broken_while_writing_gives_the_tasks_reason(host: ScriptedXapi, session: Session) -> None:
    def die(request: Request) -> None:
        request.ok()
        if request.task:
            request.body(1000)
            host.end_task(request.task, error=["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""])
            request.reset()

    host.transfers = [die]
    with open_import(session, "OpaqueRef:vdi", length_bytes=1 << 30) as running, pytest.raises(errors.OutOfSpace):
        for _ in range(1 << 10):
            running.write(bytes(1 << 20))
    assert host.tasks == {}


def test_an_answer_inside_the_answer_of_an_import_is_the_error(host: ScriptedXapi, session: Session) -> None:
    def trouble(request: Request) -> None:
        request.ok()
        request.body()
        request.inner_500("import trouble")

    host.transfers = [trouble]
    with open_import(session, "OpaqueRef:vdi", length_bytes=4) as running:
        running.write(b"disk")
        with pytest.raises(errors.TransferRefused, match="import trouble"):
            running.finish()


def test_an_import_that_is_not_complete_cannot_finish(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [receive([])]
    with open_import(session, "OpaqueRef:vdi", length_bytes=8) as running:
        running.write(b"disk")
        with pytest.raises(errors.TransferBroken, match="4 bytes were sent, 8 were announced"):
            running.finish()
    assert host.tasks == {}


def test_more_than_announced_is_the_programmers_mistake(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [receive([])]
    with open_import(session, "OpaqueRef:vdi", length_bytes=2) as running, pytest.raises(AssertionError):
        running.write(b"disk")


def test_cancel_wakes_the_writer(host: ScriptedXapi, session: Session) -> None:
    gate = threading.Event()

    def stall(request: Request) -> None:
        request.ok()
        if request.task:
            gate.wait(5)

    host.transfers = [stall]
    with open_import(session, "OpaqueRef:vdi", length_bytes=1 << 30) as running:
        threading.Timer(0.1, running.cancel).start()
        with pytest.raises(errors.TransferCancelled):
            for _ in range(1 << 10):
                running.write(bytes(1 << 20))
    gate.set()
    assert host.tasks == {}


def test_a_host_that_does_not_close_is_not_waited_for_when_the_task_succeeded(host: ScriptedXapi) -> None:
    gate = threading.Event()

    def linger(request: Request) -> None:
        request.ok()
        if request.task:
            request.body()
            host.end_task(request.task, result="<value>OpaqueRef:vdi</value>")
            gate.wait(5)

    host.transfers = [linger]
    impatient = dataclasses.replace(QUICK, drain_s=0.1)
    with (
        host.connect(timeouts=impatient) as session,
        open_import(session, "OpaqueRef:vdi", length_bytes=4) as running,
    ):
        running.write(b"disk")
        assert running.finish() == "OpaqueRef:vdi"
    gate.set()
