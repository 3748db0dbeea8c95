"""Whether a replica's disk still holds what its restore point does: asked of the storage, not of any mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.block import BufferPool
from vhd.footer import DiskType
from vhd.stream import VhdStream
from xobackup.engine import keys
from xobackup.xapi.cbt import CbtRefusal, changed_between
from xobackup.xapi.records import VdiRecord
from xobackup.xapi.transfer import open_export

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.xapi.session import Session


def changed_blocks(session: Session, vdi_ref: str, point_ref: str, *, run_id: str, cancel: CancelToken) -> int | None:
    """Blocks written to a disk since its snapshot, by the head of a delta export; ``None``: the pool gives no delta.

    Raises from the XapiError tree, and VhdError for what is no VHD.
    """
    with open_export(
        session,
        vdi_ref,
        base_ref=point_ref,
        task_label=keys.task_label(run_id, "comparison of a replica with its restore point"),
        should_stop=lambda: cancel.cancelled,
    ) as export:
        stream = VhdStream(export.readinto, name="comparison of a replica")
        stream.begin()
        if stream.footer.disk_type != DiskType.DIFFERENCING:
            return None
        found = len(stream.block_indexes())
        if not found:  # then the end is near: hear the pool out
            for _ in stream.blocks(BufferPool(1)):
                pass
            export.finish()
        return found


def tracked_changes(session: Session, vdi_ref: str, point_ref: str) -> int | str:
    """Blocks written to a disk since its snapshot, by changed block tracking; or why that does not tell.

    For disks of which the pool computes no deltas. Raises from the XapiError tree.
    """
    active, point = (VdiRecord.parse(ref, session.record("VDI", ref)) for ref in (vdi_ref, point_ref))
    if point.snapshot_of != active.ref:
        return "it is not the disk that the restore point was taken of"
    if not (active.cbt_enabled and point.cbt_enabled):
        return "its changes are not tracked"
    found = changed_between(session, point, active)
    return str(found) if isinstance(found, CbtRefusal) else len(found.block_indexes())
