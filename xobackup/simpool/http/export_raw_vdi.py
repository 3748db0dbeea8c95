"""``GET /export_raw_vdi``: a disk, or what changed in it since another, as a stream.

Query: ``vdi`` (ref or uuid), ``format`` raw (default), vhd or qcow2, ``base`` (ref or uuid). Headers go out before
the disk is attached, so later errors land in the body; only the task tells the truth. No length, no ranges,
EOF ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.attach import Dom0Attachment
from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.http import transfer
from xobackup.simpool.http.wire import Disconnected
from xobackup.simpool.image_formats import VHD_MAX_BYTES, knows_format, no_differences
from xobackup.simpool.storage.export import Export, empty_export, plan_export, plan_raw_source
from xobackup.simpool.storage.export_qcow2 import Qcow2Export

if TYPE_CHECKING:
    from xobackup.simpool.faults import Fault
    from xobackup.simpool.http.wire import Connection, Request
    from xobackup.simpool.toolstack import Toolstack

CONTENT_TYPES = {"raw": "application/octet-stream", "vhd": "application/vhd", "qcow2": "application/x-qemu-disk"}
PROGRESS_STEP = 0.02
Stream = Export | Qcow2Export


class ExportRawVdi:
    """The handler of one host."""

    def __init__(self, toolstack: Toolstack, host: str) -> None:
        self._toolstack = toolstack
        self._host = host

    def __call__(self, request: Request, connection: Connection) -> bool:
        clock = self._toolstack.clock
        at_s, outcome = clock.now_s(), "refused"
        started = clock.monotonic_s()
        try:
            outcome = self._export(request, connection)
        except transfer.Refused:
            pass
        finally:
            self._toolstack.journal.note(
                "GET /export_raw_vdi",
                [request.param("vdi"), request.param("base"), request.param("format"), connection.sent],
                at_s=at_s,
                duration_s=clock.monotonic_s() - started,
                outcome=outcome,
            )
        return False

    def _export(self, request: Request, connection: Connection) -> str:
        toolstack, database = self._toolstack, self._toolstack.database
        transfer.authenticate(toolstack, request, connection)
        named = request.param("vdi")
        if named is None:
            raise transfer.refuse_early(connection, "Missing vdi query parameter")
        try:
            with database.lock:
                vdi = database.find("VDI", named)
                record = database.copy("VDI", vdi)
        except Failure as failure:
            raise transfer.refuse_early(connection, failure) from failure
        transfer.require_host(toolstack, self._host, record["SR"], request, connection)
        task = transfer.adopt_task(toolstack, request, f"Exporting raw disk of {record['name_label']}")
        wanted = (request.param("format") or "raw").lower()
        if wanted not in CONTENT_TYPES or not knows_format(toolstack.options.release, wanted):
            unknown = Failure("INTERNAL_ERROR", f"Unknown format {wanted}")
            raise transfer.refuse_late(connection, toolstack, task, "404 Not Found", unknown)
        headers = (
            *transfer.CLOSING,
            f"task-id:{task}",
            f"content-type:{CONTENT_TYPES[wanted]}",
            f'content-disposition: attachment; filename="{record["uuid"]}.{wanted}"',
        )
        connection.answer("200 OK", headers)
        return self._stream(connection, vdi, wanted, request.param("base"), task)

    def _stream(self, connection: Connection, vdi: str, wanted: str, base: str | None, task: str) -> str:
        """Everything after the headers: attach, send, report, and let go a little later."""
        toolstack = self._toolstack
        held: list[Dom0Attachment] = []
        outcome = "ok"
        linger_s = toolstack.options.dom0_linger_s
        try:
            export = self._prepare(vdi, wanted, base, held)
            fault = toolstack.faults.take("break", "export")
            connection.begin_body()
            with toolstack.tasks.woken(task, connection.interrupt):
                self._send(connection, export, task, fault)
            toolstack.tasks.succeed(task, "")
        except Failure as failure:
            outcome = failure.code
            toolstack.tasks.fail(task, failure)
            transfer.say_inside_body(connection, failure)
        except (Disconnected, OSError):
            outcome = "disconnected"
            toolstack.tasks.fail(task, Failure(*transfer.IO_ERROR))
        except ConnectionLost:
            outcome = "dropped"
            toolstack.tasks.fail(task, Failure(*transfer.IO_ERROR))
            connection.reset()
        finally:
            connection.close()
            if (fault := toolstack.faults.take("linger", "export")) is not None:
                linger_s = fault.seconds
            toolstack.closing.wait(linger_s)
            for attachment in reversed(held):
                attachment.detach()
        return outcome

    def _prepare(self, vdi: str, wanted: str, base: str | None, held: list[Dom0Attachment]) -> Stream:
        """The checks that come after the headers, and what will be sent."""
        toolstack, database = self._toolstack, self._toolstack.database
        if wanted == "vhd" and database.copy("VDI", vdi)["virtual_size"] > VHD_MAX_BYTES:
            raise Failure("VDI_TOO_LARGE", vdi, VHD_MAX_BYTES)
        self._hold(vdi, held)
        base_ref = None
        if base is not None:
            base_ref = database.find("VDI", base)
            self._hold(base_ref, held)
        with database.lock:
            store = toolstack.store_of(vdi)
            uuid = database.get("VDI", vdi)["uuid"]
            if store is None:
                if base is not None:
                    raise no_differences()
                return empty_export(database.get("VDI", vdi)["virtual_size"], wanted, toolstack.rng)
            qcow2 = store.node(uuid).image_format == "qcow2"
            if base is not None and (qcow2 or wanted == "qcow2"):
                raise no_differences()
            if wanted == "qcow2":
                return Qcow2Export(store.disk(uuid))
            if wanted == "vhd" and qcow2:
                return plan_raw_source(store.disk(uuid), toolstack.rng)
            base_nodes = None
            if base_ref is not None:
                base_store = toolstack.store_of(base_ref)
                if base_store is None:
                    text = f"base VDI is not a vhd; cannot compute differences: {base_ref}"
                    raise Failure("INTERNAL_ERROR", f'Failure("{text}")')
                base_nodes = base_store.chain(database.get("VDI", base_ref)["uuid"])
            base_path = "" if base_ref is None else _host_path(toolstack, base_ref)
            return plan_export(store.disk(uuid), base_nodes, wanted, base_path, toolstack.rng)

    def _hold(self, vdi: str, held: list[Dom0Attachment]) -> None:
        attachment = Dom0Attachment(self._toolstack, vdi, self._host, "RO")
        attachment.attach()
        held.append(attachment)

    def _send(self, connection: Connection, export: Stream, task: str, fault: Fault | None) -> None:
        tasks, told, body_start = self._toolstack.tasks, 0.0, connection.sent
        for piece in export.pieces():
            if fault is not None and connection.sent - body_start + len(piece) > fault.after_bytes:
                transfer.break_off(
                    connection, piece[: max(0, fault.after_bytes - connection.sent + body_start)], fault
                )
                return
            connection.send(piece)
            done = (connection.sent - body_start) / export.length_bytes
            if done - told >= PROGRESS_STEP:
                told = done
                tasks.progress(task, min(done, 1.0))
            if tasks.cancelling(task):
                raise Failure("TASK_CANCELLED", task)
            if self._toolstack.closing.is_set():
                raise Disconnected("the pool is closing")


def _host_path(toolstack: Toolstack, vdi: str) -> str:
    """Where a host finds the disk's VHD: a file under its mounts, or a logical volume."""
    record = toolstack.database.get("VDI", vdi)
    sr = toolstack.database.get("SR", record["SR"])
    if sr["type"].startswith("lvm"):
        return f"/dev/VG_XenStorage-{sr['uuid']}/VHD-{record['uuid']}"
    return f"/run/sr-mount/{sr['uuid']}/{record['uuid']}.vhd"
