"""Streams out of and into a pool; those of disks: ``GET /export_raw_vdi`` and ``PUT /import_raw_vdi``.

A status of 200 means nothing: XAPI sends it before it starts, writes a second answer into the body when something
goes wrong, and tells the truth only in the task. So an export is good when its reader found it whole (magic,
computed length, trailing footer: the VHD layer), the connection ended right there, and the task ended with success:
:meth:`Export.finish`. An import is good when its task says so: :meth:`Import.finish`. Whole VMs travel the same
way (:mod:`xobackup.xapi.archives`).

Both are context managers; leaving one without ``finish`` breaks the connection, cancels and destroys the task.
``cancel`` may be called from any thread. ``throttle`` is told the bytes of each piece and may sleep.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING

from xobackup.xapi import task as tasks
from xobackup.xapi.errors import (
    ProtocolError,
    TransferBroken,
    TransferCancelled,
    TransportError,
    XapiError,
)
from xobackup.xapi.handler import Handler, StopAsked
from xobackup.xapi.retry import wait_while_busy
from xobackup.xapi.running import INNER_MARK, Running, Throttle
from xobackup.xapi.values import decode_result

if TYPE_CHECKING:
    from xobackup.xapi.session import Session


class Export:
    """A stream on its way out; made by :func:`open_export`."""

    def __init__(self, running: Running) -> None:
        self._running = running

    @property
    def progress(self) -> int:
        """Bytes received so far."""
        return self._running.bytes_done

    @property
    def task(self) -> str:
        """The reference of the pool's task."""
        return self._running.task

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer``; fewer bytes only at the end of the connection, 0 after it."""
        running = self._running
        if running.cancelled.is_set():
            raise TransferCancelled(running.handler.what)
        try:
            count = running.connection.receive_into(buffer)
        except TransportError as error:
            raise running.broken(error) from error
        if running.cancelled.is_set():
            raise TransferCancelled(running.handler.what)
        running.bytes_done += count
        if running.throttle is not None:
            running.throttle(count)
        return count

    def finish(self) -> None:
        """To call when the reader has seen its end: nothing may follow, and the task must have succeeded."""
        running = self._running
        extra = bytearray(64 * 1024)
        count = self.readinto(memoryview(extra))
        if extra.startswith(INNER_MARK):
            raise running.refused_inside(bytes(extra[:count]))
        if count:
            raise TransferBroken(running.handler.what, f"at least {count} bytes follow its end")
        running.connection.close()
        running.settle()

    def explain(self) -> XapiError | None:
        """Why the stream is not what it should be, if the pool knows: to ask when the reader found it bad."""
        return self._running.handler.task_failure(self._running.task)

    def cancel(self) -> None:
        """Stop it, from any thread; the reader gets :class:`TransferCancelled`."""
        self._running.cancel()

    def __enter__(self) -> Export:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cause = None
        if isinstance(error, Exception) and not isinstance(error, XapiError) and not self._running.ended:
            cause = self._running.cause_of(error)
        self._running.abort()
        if cause is not None:
            raise cause from error


class Import:
    """A stream on its way in; made by :func:`open_import`."""

    def __init__(self, running: Running, length_bytes: int, *, exact: bool = True) -> None:
        """Not ``exact``: ``length_bytes`` is but a bound, and what is sent says itself where it ends."""
        self._running = running
        self.length_bytes = length_bytes
        self._exact = exact

    @property
    def progress(self) -> int:
        """Bytes sent so far."""
        return self._running.bytes_done

    @property
    def task(self) -> str:
        """The reference of the pool's task."""
        return self._running.task

    def write(self, buffer: bytes | bytearray | memoryview) -> int:
        """Send all of ``buffer``; the buffer may be reused afterwards."""
        running = self._running
        size = len(memoryview(buffer).cast("B"))
        assert running.bytes_done + size <= self.length_bytes, "more bytes than announced"
        if running.cancelled.is_set():
            raise TransferCancelled(running.handler.what)
        if running.throttle is not None:
            running.throttle(size)
        try:
            running.connection.send(buffer)
        except TransportError as error:
            raise running.broken(error) from error
        running.bytes_done += size
        return size

    def finish(self) -> str | None:
        """Wait for the host to close and for the task's success; returns the task's result (the VDI)."""
        result = self.result()
        return result if isinstance(result, str) else None

    def result(self) -> object:
        """The same, with the task's result as it is."""
        running = self._running
        if self._exact and running.bytes_done != self.length_bytes:
            problem = f"{running.bytes_done} bytes were sent, {self.length_bytes} were announced"
            raise TransferBroken(running.handler.what, problem)
        said = b""
        with contextlib.suppress(TransportError):  # however it closes, the task has the verdict
            running.connection.set_timeout(running.handler.session.timeouts.drain_s)
            said = running.connection.text()
        if running.cancelled.is_set():
            raise TransferCancelled(running.handler.what)
        running.connection.close()
        if said.startswith(INNER_MARK):
            raise running.refused_inside(said)
        return decode_result(running.settle().result)

    def cancel(self) -> None:
        """Stop it, from any thread; the writer gets :class:`TransferCancelled`."""
        self._running.cancel()

    def __enter__(self) -> Import:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.abort()


def open_export(
    session: Session,
    vdi_ref: str,
    *,
    base_ref: str | None = None,
    format: str = "vhd",
    task_label: str = "",
    throttle: Throttle | None = None,
    should_stop: StopAsked | None = None,
) -> Export:
    """Start to export a VDI (ref or uuid), whole or what differs from ``base_ref``; its first bytes are there.

    ``should_stop`` is asked while the host is still attaching the disk, which can take minutes; from then on
    ``cancel`` is there.
    """
    label = task_label or f"export of VDI {vdi_ref}"
    query = {"format": format, "vdi": vdi_ref}
    if base_ref is not None:
        query["base"] = base_ref

    def once() -> Export:
        handler = Handler(session, label, method="GET", path="/export_raw_vdi", query=query, should_stop=should_stop)
        return begin_export(handler, label, throttle)

    return wait_while_busy(once, clock=session.clock, timeouts=session.timeouts, should_stop=should_stop)


def begin_export(handler: Handler, label: str, throttle: Throttle | None) -> Export:
    """Make the request, and wait until its first bytes are there."""
    running = _begin(handler, label, None, throttle)
    try:
        handler.wait(running.connection)
        if running.connection.peek(len(INNER_MARK)) == INNER_MARK:
            raise running.refused_inside(running.connection.text())
        running.connection.set_timeout(handler.session.timeouts.idle_s)
    except TransportError as error:
        failed = running.broken(error)
        running.abort()
        raise failed from error
    except BaseException:
        running.abort()
        raise
    return Export(running)


def open_import(
    session: Session,
    vdi_ref: str,
    *,
    length_bytes: int,
    format: str = "vhd",
    task_label: str = "",
    throttle: Throttle | None = None,
    should_stop: StopAsked | None = None,
) -> Import:
    """Start to import exactly ``length_bytes`` into a VDI; the host has said that it will read them."""
    label = task_label or f"import into VDI {vdi_ref}"
    query = {"format": format, "vdi": vdi_ref}
    handler = Handler(session, label, method="PUT", path="/import_raw_vdi", query=query, should_stop=should_stop)
    return begin_import(handler, label, length_bytes, throttle)


def begin_import(
    handler: Handler,
    label: str,
    length_bytes: int,
    throttle: Throttle | None,
    *,
    probe: bool = True,
    exact: bool = True,
) -> Import:
    """Find the host that takes it, by an empty request where that does no harm, and make the request."""
    if probe:
        _probe(handler)
    running = _begin(handler, label, length_bytes, throttle)
    running.connection.set_timeout(handler.session.timeouts.idle_s)
    return Import(running, length_bytes, exact=exact)


def _probe(handler: Handler) -> None:
    """Learn the host that takes a PUT, by an empty one without a task; nothing else about its answer matters."""
    connection, _head = handler.open(length_bytes=0)
    with contextlib.closing(connection):
        connection.set_timeout(handler.session.timeouts.drain_s)
        connection.text()  # until it has detached the disk again


def _begin(handler: Handler, label: str, length_bytes: int | None, throttle: Throttle | None) -> Running:
    """Make the task and get the 200."""
    session = handler.session
    task = session.call("task.create", label, "xobackup")
    if not isinstance(task, str):
        raise ProtocolError("task.create", f"expected a task, found {task!r}")
    try:
        connection, head = handler.open(task=task, length_bytes=length_bytes)
        if head.status == 200:
            return Running(handler, task, connection, throttle)
        with contextlib.closing(connection):
            connection.set_timeout(session.timeouts.drain_s)
            body = connection.text()
        raise handler.refusal(head.status, body, task=task)
    except TransportError as error:
        failed = handler.task_failure(task, wait_s=0.0)
        tasks.discard(session, task, adopted=False)
        raise failed or error from error
    except BaseException as error:
        tasks.discard(session, task, adopted=isinstance(error, TransferCancelled))
        raise


VdiExport = Export
VdiImport = Import

__all__ = [
    "Export",
    "Import",
    "Throttle",
    "VdiExport",
    "VdiImport",
    "begin_export",
    "begin_import",
    "open_export",
    "open_import",
]
