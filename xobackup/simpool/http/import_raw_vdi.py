"""``PUT /import_raw_vdi``: a stream is written into a disk.

``200 OK`` goes out before the body is read; only the task tells how it ended. A body with any transfer coding is
refused. A VHD is read forward only and applied to what the disk already holds, whatever its parent was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, SECTOR_BYTES, BufferPool, runs
from vhd.errors import VhdError
from vhd.footer import FOOTER_BYTES
from vhd.qcow2.stream import Qcow2Stream
from vhd.stream import VhdStream
from xobackup.simpool.attach import Dom0Attachment
from xobackup.simpool.disks import refresh_disks
from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.http import transfer
from xobackup.simpool.image_formats import knows_format
from xobackup.simpool.storage.store import SrStore, StorageFull
from xobackup.simpool.values import parse_type
from xobackup.simpool.xml_values import xml_value

if TYPE_CHECKING:
    from xobackup.simpool.faults import Fault
    from xobackup.simpool.http.wire import Connection, Request
    from xobackup.simpool.toolstack import Toolstack

FORMATS = frozenset({"raw", "vhd", "qcow2"})
_VDI = parse_type("VDI ref")


class Body:
    """The request's body: at most ``length`` bytes of the connection, and the planned fault on the way."""

    def __init__(self, connection: Connection, length: int, fault: Fault | None) -> None:
        self._connection = connection
        self._length = length
        self._fault = fault
        self.received = 0

    def read_into(self, view: memoryview, *, at_once: bool = False) -> int:
        if self._fault is not None and self.received >= self._fault.after_bytes:
            self._break(self._fault)
        wanted = min(len(view), self._length - self.received)
        got = self._connection.read_into(view[:wanted], at_once=at_once) if wanted else 0
        self.received += got
        return got

    def read_some(self, count: int) -> bytes:
        """At most ``count`` bytes, as soon as there are any; none at the end of the body."""
        buffer = bytearray(count)
        return bytes(buffer[: self.read_into(memoryview(buffer), at_once=True)])

    def read_exactly(self, view: memoryview) -> int:
        """Fill ``view``; shorter only at the end of the body."""
        done = 0
        while done < len(view) and (got := self.read_into(view[done:])):
            done += got
        return done

    @staticmethod
    def _break(fault: Fault) -> None:
        if fault.how == "error":
            raise Failure.unchecked(fault.code or transfer.IO_ERROR[0], fault.params or list(transfer.IO_ERROR[1:]))
        if fault.still is not None:
            fault.still()
        raise ConnectionLost("import")


class ImportRawVdi:
    """The handler of one host."""

    def __init__(self, toolstack: Toolstack, host: str) -> None:
        self._toolstack = toolstack
        self._host = host

    def __call__(self, request: Request, connection: Connection) -> bool:
        clock = self._toolstack.clock
        at_s, outcome = clock.now_s(), "refused"
        started = clock.monotonic_s()
        try:
            outcome = self._import(request, connection)
        except transfer.Refused:
            pass
        finally:
            self._toolstack.journal.note(
                "PUT /import_raw_vdi",
                [request.param("vdi"), request.param("format"), request.content_length],
                at_s=at_s,
                duration_s=clock.monotonic_s() - started,
                outcome=outcome,
            )
        return False

    def _import(self, request: Request, connection: Connection) -> str:
        toolstack = self._toolstack
        transfer.authenticate(toolstack, request, connection)
        vdi = self._target(request, connection)
        task = transfer.adopt_task(toolstack, request, "Importing raw disk")
        wanted = (request.param("format") or "raw").lower()
        self._refuse_wrong_forms(request, connection, vdi, wanted, task)
        if vdi is None:
            vdi = self._make_disk(request, connection, task)
        connection.answer("200 OK", (*transfer.CLOSING, f"task-id:{task}"))
        return self._receive(request, connection, vdi, wanted, task)

    def _target(self, request: Request, connection: Connection) -> str | None:
        """The disk, if one is named; the redirect, if its repository is elsewhere."""
        toolstack, database = self._toolstack, self._toolstack.database
        named, sr = request.param("vdi"), request.param("sr_id") or request.param("sr_uuid")
        try:
            with database.lock:
                vdi = None if named is None else database.find("VDI", named)
                sr = database.get("VDI", vdi)["SR"] if vdi else sr and database.find("SR", sr)
        except Failure as failure:
            raise transfer.refuse_early(connection, failure) from failure
        if sr:
            transfer.require_host(toolstack, self._host, sr, request, connection)
        return vdi

    def _refuse_wrong_forms(
        self, request: Request, connection: Connection, vdi: str | None, wanted: str, task: str
    ) -> None:
        toolstack = self._toolstack

        def refuse(status: str, code: str, *params: str) -> transfer.Refused:
            return transfer.refuse_late(connection, toolstack, task, status, Failure(code, *params))

        coding = request.headers.get("transfer-encoding")
        if coding is not None:
            raise refuse("404 Not Found", "INTERNAL_ERROR", f"Cannot handle encoding: {coding}")
        if wanted not in FORMATS or not knows_format(toolstack.options.release, wanted):
            raise refuse("404 Not Found", "INTERNAL_ERROR", f"Unknown format {wanted}")
        if request.param("chunked") is not None and wanted != "raw":
            raise refuse("404 Not Found", "INTERNAL_ERROR", "Cannot handle chunked VHD")
        if vdi is None and not (request.param("sr_id") or request.param("sr_uuid")):
            raise refuse("400 Bad Request", "VDI_MISSING")
        if vdi is None and wanted != "raw":
            text = "Importing a VHD directly into an SR not yet supported"
            raise refuse("400 Bad Request", "INTERNAL_ERROR", text)

    def _make_disk(self, request: Request, connection: Connection, task: str) -> str:
        """Raw straight into a repository makes a disk of the body's length."""
        from xobackup.simpool.disks import create_disk

        toolstack, database = self._toolstack, self._toolstack.database
        with database.lock:
            sr = database.find("SR", request.param("sr_id") or request.param("sr_uuid") or "")
            record = {
                "SR": sr,
                "name_label": "Imported VDI",
                "virtual_size": request.content_length or 0,
                "type": "user",
                "sharable": False,
                "read_only": False,
                "other_config": {},
            }
            try:
                return create_disk(toolstack, record)
            except Failure as failure:
                status = "400 Bad Request"
                raise transfer.refuse_late(connection, toolstack, task, status, failure) from failure

    def _receive(self, request: Request, connection: Connection, vdi: str, wanted: str, task: str) -> str:
        toolstack = self._toolstack
        attachment = Dom0Attachment(toolstack, vdi, self._host, "RW")
        outcome = "ok"
        linger_s = toolstack.options.dom0_linger_s
        try:
            self._write(request, connection, vdi, wanted, attachment)
            toolstack.tasks.succeed(task, xml_value(vdi, _VDI))
        except Failure as failure:
            outcome = failure.code
            toolstack.tasks.fail(task, failure)
        except (VhdError, StorageFull, OSError):
            outcome = transfer.IO_ERROR[0]
            toolstack.tasks.fail(task, Failure(*transfer.IO_ERROR))
        except ConnectionLost:
            outcome = "dropped"
            toolstack.tasks.fail(task, Failure(*transfer.IO_ERROR))
            connection.reset()
        finally:
            connection.close()
            if attachment.vbd:
                if (fault := toolstack.faults.take("linger", "import")) is not None:
                    linger_s = fault.seconds
                toolstack.closing.wait(linger_s)
                attachment.detach()
        return outcome

    def _write(
        self, request: Request, connection: Connection, vdi: str, wanted: str, attachment: Dom0Attachment
    ) -> None:
        toolstack, database = self._toolstack, self._toolstack.database
        length = request.content_length
        if length == 0:  # the probe that real clients send first, to learn of a redirect
            raise Failure(*transfer.IO_ERROR)
        fault = toolstack.faults.take("break", "import")
        attachment.attach()
        store, record = toolstack.store_of(vdi), database.copy("VDI", vdi)
        if store is None:
            raise Failure("SR_OPERATION_NOT_SUPPORTED", record["SR"])
        toolstack.content_changed(vdi)
        body = Body(connection, record["virtual_size"] if length is None else length, fault)
        try:
            if request.param("chunked") is not None:
                write_framed(body, store, record["uuid"])
            elif wanted == "vhd":
                write_vhd(body, store, record["uuid"], length=length)
            elif wanted == "qcow2":
                write_qcow2(body, store, record["uuid"], length=length)
            else:
                write_raw(body, store, record["uuid"], length=length or 0)
        finally:
            with database.lock:
                if database.exists("VDI", vdi):
                    refresh_disks(toolstack, record["SR"], [vdi])


def write_vhd(body: Body, store: SrStore, uuid: str, *, length: int | None) -> None:
    """Apply a VHD: runs of set sectors are written, clear ones leave what the disk holds."""
    stream = VhdStream(body.read_into, name="the imported stream")
    stream.begin()
    size, pool = store.node(uuid).size_bytes, BufferPool(1)
    for block in stream.blocks(pool):
        start = block.index * BLOCK_BYTES
        try:
            for first, count in runs(block.bitmap):
                offset = start + first * SECTOR_BYTES
                usable = min(count * SECTOR_BYTES, stream.footer.current_size_bytes - offset)
                if usable > 0 and offset + usable > size:
                    raise Failure(*transfer.IO_ERROR)
                if usable > 0:
                    piece = block.buffer.data[first * SECTOR_BYTES : first * SECTOR_BYTES + usable]
                    store.write(uuid, offset, piece)
        finally:
            pool.release(block.buffer)
    if length is None or (length - 1) & ~511 != stream.position - FOOTER_BYTES:
        raise Failure(*transfer.IO_ERROR)  # the trailing footer is looked for where the length says
    if stream.footer.current_size_bytes > size:
        raise Failure(*transfer.IO_ERROR)


def write_qcow2(body: Body, store: SrStore, uuid: str, *, length: int | None) -> None:
    """Apply a qcow2 image: clusters that lie in it are written, others leave what the disk holds."""
    stream = Qcow2Stream(body.read_into, name="the imported stream")
    stream.begin()
    if length is None or stream.virtual_size_bytes > store.node(uuid).size_bytes:
        raise Failure(*transfer.IO_ERROR)
    for offset, piece in stream.pieces():
        store.write(uuid, offset, piece)
    if body.received != length:
        raise Failure(*transfer.IO_ERROR)


def write_raw(body: Body, store: SrStore, uuid: str, *, length: int) -> None:
    """Copy ``length`` bytes from the start of the disk."""
    size, done = store.node(uuid).size_bytes, 0
    buffer = memoryview(bytearray(BLOCK_BYTES))
    while done < length:
        got = body.read_exactly(buffer[: min(BLOCK_BYTES, length - done)])
        if got == 0 or done + got > size:
            raise Failure(*transfer.IO_ERROR)
        store.write(uuid, done, buffer[:got])
        done += got


def write_framed(body: Body, store: SrStore, uuid: str) -> None:
    """XAPI's private framing: u64 LE offset, u32 LE length, data ..., ended by twelve zeros."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    size = store.node(uuid).size_bytes
    while True:
        head = bytearray(12)
        if body.read_exactly(memoryview(head)) != len(head):
            raise Failure(*transfer.IO_ERROR)
        offset, left = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")
        if left == 0:
            return
        while left:
            got = body.read_exactly(buffer[: min(left, BLOCK_BYTES)])
            if got == 0 or offset + got > size:
                raise Failure(*transfer.IO_ERROR)
            store.write(uuid, offset, buffer[:got])
            offset, left = offset + got, left - got
