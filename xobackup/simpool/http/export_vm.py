"""``GET /export`` and ``GET /export_metadata``: VMs as archives.

An export's checks of the VM come before its headers (500, the task fails); then the disks follow until the connection
ends, and only the task tells how. Metadata is small: it has a length, and its errors are real ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool import vm_rules
from xobackup.simpool.attach import Dom0Attachment
from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.http import transfer
from xobackup.simpool.http.wire import Disconnected
from xobackup.simpool.xva.archive import END, compressed, disk_members, member
from xobackup.simpool.xva.description import describe, objects_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xobackup.simpool.faults import Fault
    from xobackup.simpool.http.wire import Connection, Request
    from xobackup.simpool.toolstack import Toolstack

COMPRESSIONS = {"true": "gzip", "gzip": "gzip", "zstd": "zstd"}


class ExportVm:
    """The handler of one host."""

    def __init__(self, toolstack: Toolstack, host: str) -> None:
        self._toolstack = toolstack
        self._host = host

    def __call__(self, request: Request, connection: Connection) -> bool:
        clock = self._toolstack.clock
        at_s, started, outcome = clock.now_s(), clock.monotonic_s(), "refused"
        try:
            outcome = self._export(request, connection)
        except transfer.Refused:
            pass
        finally:
            self._toolstack.journal.note(
                "GET /export",
                [request.param("ref") or request.param("uuid"), request.param("use_compression"), connection.sent],
                at_s=at_s,
                duration_s=clock.monotonic_s() - started,
                outcome=outcome,
            )
        return False

    def _export(self, request: Request, connection: Connection) -> str:
        toolstack, database = self._toolstack, self._toolstack.database
        transfer.authenticate(toolstack, request, connection)
        vm = find_vm(toolstack, request, connection)
        with database.lock:
            objects = objects_of(toolstack, [vm], snapshots=False)
            disks = [ref for cls, ref in objects if cls == "VDI" and toolstack.store_of(ref) is not None]
            repositories = {database.get("VDI", vdi)["SR"] for vdi in disks}
        for sr in sorted(repositories):
            transfer.require_host(toolstack, self._host, sr, request, connection)
        task = transfer.adopt_task(toolstack, request, "Exporting VM")
        try:
            with database.lock:
                vm_rules.check(database, vm, "export")
                database.set_key("VM", vm, "current_operations", task, "export")
                vm_rules.refresh(database, vm)
        except Failure as failure:
            toolstack.tasks.fail(task, failure)
            raise transfer.refuse_early(connection, failure) from failure
        try:
            return self._answer(request, connection, vm, disks, task)
        finally:
            self._unlock(vm, task)

    def _unlock(self, vm: str, task: str) -> None:
        """Other operations may go on; done before anybody learns how the export ended."""
        database = self._toolstack.database
        with database.lock:
            if database.exists("VM", vm) and task in database.get("VM", vm)["current_operations"]:
                database.set_key("VM", vm, "current_operations", task, None)
                vm_rules.refresh(database, vm)

    def _answer(self, request: Request, connection: Connection, vm: str, disks: list[str], task: str) -> str:
        headers = (
            *transfer.CLOSING,
            f"task-id: {task}",
            "Server: xapi/24.16",
            "content-type: application/octet-stream",
            'content-disposition: attachment; filename="export.xva"',
        )
        connection.answer("200 OK", headers, version="1.0")
        toolstack = self._toolstack
        outcome, held = "ok", list[Dom0Attachment]()
        kept = toolstack.faults.take("linger", "export_vm")
        try:
            for vdi in disks:
                attachment = Dom0Attachment(toolstack, vdi, self._host, "RO")
                attachment.attach()
                held.append(attachment)
            kind = COMPRESSIONS.get((request.param("use_compression") or "").lower(), "")
            fault = toolstack.faults.take("break", "export_vm")
            connection.begin_body()
            self._send(connection, compressed(self._pieces(vm), kind), task, fault)
            while kept is None and held:  # a host lets go of what it has read before it says so
                held.pop().detach()
            self._unlock(vm, task)
            toolstack.tasks.succeed(task, "")
        except Failure as failure:
            outcome = failure.code
            self._unlock(vm, task)
            toolstack.tasks.fail(task, failure)
            transfer.say_inside_body(connection, failure)
        except (Disconnected, ConnectionLost, OSError) as error:
            outcome = "dropped" if isinstance(error, ConnectionLost) else "disconnected"
            self._unlock(vm, task)
            toolstack.tasks.fail(task, Failure(*transfer.IO_ERROR))
            if isinstance(error, ConnectionLost):
                connection.reset()
        finally:
            connection.close()
            if held:
                toolstack.closing.wait(toolstack.options.dom0_linger_s if kept is None else kept.seconds)
            for attachment in held:
                attachment.detach()
        return outcome

    def _pieces(self, vm: str) -> Iterator[bytes]:
        toolstack, options = self._toolstack, self._toolstack.options
        with toolstack.database.lock:
            objects = objects_of(toolstack, [vm], snapshots=False)
            text, numbers = describe(toolstack, objects, snapshots=False)
            found = [(numbers[ref], ref, toolstack.store_of(ref)) for cls, ref in objects if cls == "VDI"]
            disks = [
                (number, store.disk(toolstack.database.get("VDI", ref)["uuid"]))
                for number, ref, store in found
                if store
            ]
        yield member("ova.xml", text)
        for number, disk in disks:
            with disk:
                yield from disk_members(disk, number, options.xva_checksum, options.xva_alive_every)
        yield END

    def _send(
        self, connection: Connection, pieces: Iterator[bytes | memoryview], task: str, fault: Fault | None
    ) -> None:
        start = connection.sent
        for piece in pieces:
            if fault is not None and connection.sent - start + len(piece) > fault.after_bytes:
                transfer.break_off(connection, piece[: max(0, fault.after_bytes - connection.sent + start)], fault)
                return
            connection.send(piece)
            if self._toolstack.tasks.cancelling(task):
                raise Failure("TASK_CANCELLED", task)
            if self._toolstack.closing.is_set():
                raise Disconnected("the pool is closing")


def find_vm(toolstack: Toolstack, request: Request, connection: Connection) -> str:
    """The VM that the request names; answers 500 when there is none."""
    named = request.param("ref") or request.param("uuid")
    if named is None:
        raise transfer.refuse_early(connection, "Missing uuid or ref query parameter")
    try:
        with toolstack.database.lock:
            return toolstack.database.find("VM", named)
    except Failure as failure:
        raise transfer.refuse_early(connection, failure) from failure


class ExportMetadata:
    """The handler of ``/export_metadata``."""

    def __init__(self, toolstack: Toolstack) -> None:
        self._toolstack = toolstack

    def __call__(self, request: Request, connection: Connection) -> bool:
        toolstack, database = self._toolstack, self._toolstack.database
        try:
            transfer.authenticate(toolstack, request, connection)
            with database.lock:
                if request.param("all") == "true":
                    vms = [ref for ref, _ in database.where("VM", is_a_snapshot=False, is_default_template=False)]
                    if request.param("include_dom0") == "false":
                        vms = [vm for vm in vms if not database.get("VM", vm)["is_control_domain"]]
                else:
                    vms = [find_vm(toolstack, request, connection)]
                task = transfer.adopt_task(toolstack, request, "Exporting metadata")
                snapshots = request.param("export_snapshots") != "false"
                objects = objects_of(
                    toolstack,
                    vms,
                    snapshots=snapshots,
                    excluded=frozenset((request.param("excluded_device_types") or "").split(",")),
                    parents=request.param("include_vhd_parents") == "true",
                )
                text, _ = describe(toolstack, objects, snapshots=snapshots)
        except transfer.Refused:
            return False
        body = member("ova.xml", text) + END
        headers = (
            *transfer.CLOSING,
            f"task-id: {task}",
            "content-type: application/octet-stream",
            f"content-length: {len(body)}",
        )
        connection.answer("200 OK", headers, body, version="1.0")
        toolstack.tasks.succeed(task, "")
        return False
