"""``PUT /import`` and ``PUT /import_metadata``: archives become VMs.

``200 OK`` goes out before the body is read; the task's result is the list of new VMs. A body with any transfer coding
is refused. Whatever was made is removed again when the archive turns out to be broken, unless ``force`` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool import vm_rules
from xobackup.simpool.attach import Dom0Attachment
from xobackup.simpool.disks import refresh_disks, storage_failures
from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.http import transfer
from xobackup.simpool.http.import_raw_vdi import Body
from xobackup.simpool.values import parse_type
from xobackup.simpool.xml_values import xml_value
from xobackup.simpool.xva.archive import PIECE_BYTES, SUFFIXES, Member, Reader, Truncated, checksum
from xobackup.simpool.xva.description import Unreadable, parse
from xobackup.simpool.xva.restore import Import

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xobackup.simpool.http.wire import Connection, Request
    from xobackup.simpool.toolstack import Toolstack

_VMS = parse_type("VM ref set")
ENDLESS = 1 << 62


class DryRun(Exception):
    """Everything would have worked."""


class ImportVm:
    """The handler of one host; ``full`` for ``/import``, else ``/import_metadata``."""

    def __init__(self, toolstack: Toolstack, host: str, *, full: bool) -> None:
        self._toolstack = toolstack
        self._host = host
        self._full = full

    def __call__(self, request: Request, connection: Connection) -> bool:
        clock = self._toolstack.clock
        at_s, started, outcome = clock.now_s(), clock.monotonic_s(), "refused"
        try:
            outcome = self._import(request, connection)
        except transfer.Refused:
            pass
        finally:
            self._toolstack.journal.note(
                "PUT /import" if self._full else "PUT /import_metadata",
                [request.raw_query.partition("session_id")[0]],
                at_s=at_s,
                duration_s=clock.monotonic_s() - started,
                outcome=outcome,
            )
        return False

    def _import(self, request: Request, connection: Connection) -> str:
        toolstack = self._toolstack
        transfer.authenticate(toolstack, request, connection)
        sr = self._repository(request, connection) if self._full else ""
        task = transfer.adopt_task(toolstack, request, "Importing VM")
        if "transfer-encoding" in request.headers:
            refusal = Failure("IMPORT_ERROR_CANNOT_HANDLE_CHUNKED")
            raise transfer.refuse_late(connection, toolstack, task, "403 Forbidden", refusal)
        if sr and sr not in toolstack.stores:
            refusal = Failure.unchecked("SR_OPERATION_NOT_SUPPORTED", [])
            raise transfer.refuse_late(connection, toolstack, task, "400 Bad Request", refusal)
        connection.answer("200 OK", (*transfer.CLOSING, f"task-id:{task}"))
        return self._receive(request, connection, sr, task)

    def _repository(self, request: Request, connection: Connection) -> str:
        toolstack, database = self._toolstack, self._toolstack.database
        named = request.param("sr_id") or request.param("sr_uuid")
        try:
            with database.lock:
                sr = database.find("SR", named) if named else str(database.get("pool", toolstack.pool)["default_SR"])
                database.row("SR", sr)
        except Failure as failure:
            raise transfer.refuse_early(connection, failure) from failure
        transfer.require_host(toolstack, self._host, sr, request, connection)
        return sr

    def _receive(self, request: Request, connection: Connection, sr: str, task: str) -> str:
        toolstack, database = self._toolstack, self._toolstack.database
        length = request.content_length
        work = Import(
            toolstack=toolstack,
            sr=sr,
            full=self._full,
            restore=request.param("restore") == "true",
            force=request.param("force") == "true",
            mapping={name[4:]: value for name, value in request.query.items() if name.startswith("vdi:")},
        )
        outcome = "ok"
        try:
            fault = toolstack.faults.take("break", "import_vm")
            body = Body(connection, ENDLESS if length is None else length, fault)
            self._work(request, work, Reader(body.read_some), task)
            toolstack.tasks.succeed(task, xml_value(work.vms, _VMS))
        except DryRun:
            toolstack.tasks.succeed(task, xml_value([], _VMS))
        except (Failure, Truncated, Unreadable, ConnectionLost) as error:
            failure = _failure(error)
            outcome = failure.code
            if not work.force:
                with database.lock:
                    work.undo()
            toolstack.tasks.fail(task, failure)
            if isinstance(error, ConnectionLost):
                connection.reset()
        finally:
            connection.close()
        return outcome

    def _work(self, request: Request, work: Import, reader: Reader, task: str) -> None:
        database = self._toolstack.database
        members = reader.members()
        first = next(members, None)
        if first is None or first.name != "ova.xml":
            raise Failure("IMPORT_ERROR_UNEXPECTED_FILE", "ova.xml", "" if first is None else first.name)
        described = parse(first.data)
        with database.lock:
            work.run(described)
            if request.param("dry_run") == "true":
                work.undo()
                raise DryRun
            self._lock(work, task, "import")
            database.set_key("task", task, "other_config", "object_creation", "complete")
        try:
            if self._full:
                self._fill(work, members)
            for _ in members:
                pass  # whatever follows must at least be whole
        finally:
            with database.lock:
                self._lock(work, task, None)

    def _lock(self, work: Import, task: str, operation: str | None) -> None:
        """Say on the new VMs that they are being imported, or no longer are."""
        database = self._toolstack.database
        for vm in work.vms:
            if database.exists("VM", vm):
                database.set_key("VM", vm, "current_operations", task, operation)
                vm_rules.refresh(database, vm)

    def _fill(self, work: Import, members: Iterator[Member]) -> None:
        """The disks' content, each held by the control domain while it is written."""
        toolstack, database = self._toolstack, self._toolstack.database
        held: list[Dom0Attachment] = []
        try:
            for vdi in work.disks.values():
                attachment = Dom0Attachment(toolstack, vdi, self._host, "RW")
                attachment.attach()
                held.append(attachment)
                toolstack.content_changed(vdi)
            with storage_failures():
                _write(toolstack, work, members)
        finally:
            for attachment in held:
                attachment.detach()
            with database.lock:
                left = [vdi for vdi in work.disks.values() if database.exists("VDI", vdi)]
                if left:
                    refresh_disks(toolstack, work.sr, left)


def _write(toolstack: Toolstack, work: Import, members: Iterator[Member]) -> None:
    store, database, bad = toolstack.stores[work.sr], toolstack.database, False
    for piece in members:
        number, _, index = piece.name.rpartition("/")
        vdi = work.disks.get(number)
        if vdi is None or not index.isdigit():
            raise Failure("IMPORT_ERROR_UNEXPECTED_FILE", f"one of {sorted(work.disks)}", piece.name)
        if not piece.data:
            continue  # a sign of life
        bad = not _checked(piece, next(members, None)) or bad
        uuid = database.get("VDI", vdi)["uuid"]
        if int(index) * PIECE_BYTES + len(piece.data) > store.node(uuid).size_bytes:
            raise Failure("IMPORT_ERROR_UNEXPECTED_FILE", "a piece within the disk", piece.name)
        store.write(uuid, int(index) * PIECE_BYTES, piece.data)
    if bad:
        raise Failure("IMPORT_ERROR_SOME_CHECKSUMS_FAILED")


def _checked(piece: Member, sums: Member | None) -> bool:
    """Whether the member after a piece is its checksum, and right."""
    if sums is None:
        raise Truncated("a piece without its checksum")
    for kind, suffix in SUFFIXES.items():
        if sums.name == piece.name + suffix:
            return checksum(piece.data, "xxhash" if kind == "xxhash" else "sha1") == sums.data.strip()
    raise Failure("IMPORT_ERROR_UNEXPECTED_FILE", piece.name + SUFFIXES["xxhash"], sums.name)


def _failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, Unreadable):
        return Failure("IMPORT_INCOMPATIBLE_VERSION")
    return Failure("IMPORT_ERROR_PREMATURE_EOF")
