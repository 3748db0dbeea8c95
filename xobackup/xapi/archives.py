"""Whole VMs out of and into a pool, as archives: ``GET /export`` and ``PUT /import``.

The same connections and tasks as those of disks (:mod:`xobackup.xapi.transfer`): an export is good when its reader
found it whole and its task says success; an import is good when its task says so. An import has a length: XAPI
refuses chunks. While it runs XAPI makes the VM early, and removes it again by itself when the stream breaks off;
:meth:`VmImport.made` finds it meanwhile, so that it can be marked.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from xobackup.xapi.errors import NotFound, TransferBroken
from xobackup.xapi.handler import Handler, StopAsked
from xobackup.xapi.running import Throttle
from xobackup.xapi.transfer import Export, Import, begin_export, begin_import

if TYPE_CHECKING:
    from types import TracebackType

    from xobackup.xapi.session import Session


ENDLESS_BYTES = 1 << 50
"""A petabyte."""


class Compression(StrEnum):
    """What the host packs the archive with."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"

    @property
    def parameter(self) -> str:
        """Of ``use_compression``; ``true`` is gzip, also for hosts that know no other."""
        return {"none": "false", "gzip": "true", "zstd": "zstd"}[self.value]


def open_vm_export(
    session: Session,
    vm_ref: str,
    *,
    compression: Compression = Compression.NONE,
    task_label: str = "",
    throttle: Throttle | None = None,
    should_stop: StopAsked | None = None,
) -> Export:
    """Start to export a snapshot, or a VM that is halted or suspended; its first bytes are there."""
    label = task_label or f"export of VM {vm_ref}"
    handler = Handler(
        session,
        label,
        method="GET",
        path="/export",
        query={"ref": vm_ref, "use_compression": compression.parameter},
        should_stop=should_stop,
        first_byte_s=session.timeouts.vm_first_byte_s,
    )
    return begin_export(handler, label, throttle)


def open_vm_import(
    session: Session,
    *,
    length_bytes: int | None,
    sr_ref: str = "",
    restore: bool = False,
    force: bool = False,
    task_label: str = "",
    throttle: Throttle | None = None,
    should_stop: StopAsked | None = None,
) -> VmImport:
    """Start to import an archive of exactly ``length_bytes`` into an SR (the pool's default when none is named).

    ``None``: nobody knows yet how long it will be. XAPI takes no chunks, but it reads an archive to the archive's own
    end; so a length that is never reached is announced, as Xen Orchestra does.

    ``restore`` keeps uuids and MACs; ``force`` makes XAPI keep what it has made when the import fails.
    """
    label = task_label or "import of a VM"
    query = {name: "true" for name, wanted in (("restore", restore), ("force", force)) if wanted}
    if sr_ref:
        query["sr_id"] = sr_ref
    handler = Handler(session, label, method="PUT", path="/import", query=query, should_stop=should_stop)
    exact = length_bytes is not None
    stream = begin_import(
        handler, label, ENDLESS_BYTES if length_bytes is None else length_bytes, throttle, exact=exact
    )
    return VmImport(session, stream)


class VmImport:
    """A VM on its way in; a context manager like the import it wraps."""

    def __init__(self, session: Session, stream: Import) -> None:
        self._session = session
        self._stream = stream

    @property
    def task(self) -> str:
        """The reference of the pool's task."""
        return self._stream.task

    def write(self, buffer: bytes | bytearray | memoryview) -> int:
        """Send all of ``buffer``."""
        return self._stream.write(buffer)

    def made(self) -> list[str]:
        """The VMs that XAPI has made for this import; none until all their objects are there."""
        try:
            config = self._session.call("task.get_other_config", self.task)
        except NotFound:
            return []
        if not isinstance(config, dict) or config.get("object_creation") != "complete":
            return []
        return [
            ref
            for ref, vm in self._session.records("VM").items()
            if self.task in (vm.get("current_operations") or {})
        ]

    def finish(self) -> list[str]:
        """Wait for the task's success; returns the new VMs."""
        result = self._stream.result()
        refs = [ref for ref in result if isinstance(ref, str)] if isinstance(result, list) else []
        if not refs:
            raise TransferBroken("import of a VM", f"the task names no VM, found {result!r}")
        return refs

    def cancel(self) -> None:
        """Stop it, from any thread."""
        self._stream.cancel()

    def __enter__(self) -> VmImport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, trace)
