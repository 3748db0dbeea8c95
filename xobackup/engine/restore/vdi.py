"""A disk of a restore point into a VDI of a pool.

Into a **new** VDI only what the disk holds is sent: the rest is zeros already. Into an **existing** one every block
is sent, zeros for those the disk does not have and for what the VDI has past the disk's end, so that nothing of the
old content shines through. An existing VDI must be attached nowhere, and large enough.

A VDI that its SR keeps in qcow2 gets a qcow2 image, any other a VHD.
"""

from __future__ import annotations

import uuid as uuids
from typing import TYPE_CHECKING, Any

from vhd.block import BLOCK_BYTES, BufferPool, Disk
from vhd.emit import VhdEmitter
from vhd.layout import ParentLink
from vhd.qcow2.emit import Qcow2Emitter
from vhd.timestamps import to_vhd
from xobackup.engine import keys
from xobackup.engine.active import RESTORE_DISK, Active, marked_active
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import UsageError
from xobackup.engine.full.archive_disk import ArchiveDisk
from xobackup.engine.leftovers.clean import end_tasks, recover
from xobackup.engine.progress import Meter
from xobackup.engine.readahead import Padded, ReadAhead
from xobackup.engine.restore.files import Written, open_source
from xobackup.xapi.errors import TransferCancelled
from xobackup.xapi.image_format import ImageFormat, image_format_of
from xobackup.xapi.transfer import open_import

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session


def send_disk(
    world: World,
    session: Session,
    disk: Disk,
    vdi_ref: str,
    *,
    indexes: list[int],
    run_id: str,
    meter: Meter,
    cancel: CancelToken,
    workers: int | None = None,
    base_uuid: str = "",
) -> None:
    """Import the blocks ``indexes`` of ``disk`` into a VDI. Returns when the pool's task has succeeded.

    ``workers`` 1: the disk is read in order, block after block. ``base_uuid``: the VDI is a clone of that one, and
    gets a differencing VHD.
    """
    meter.begin("restore", total_bytes=len(indexes) * BLOCK_BYTES)
    ahead = ReadAhead(disk, indexes, cancel=cancel, workers=workers)
    image_format = image_format_of(session.record("VDI", vdi_ref))
    emitter: Qcow2Emitter | VhdEmitter
    if image_format is ImageFormat.QCOW2:
        emitter = Qcow2Emitter(ahead, indexes=indexes)
    else:
        uuid = uuids.UUID(world.new_id())
        parent = ParentLink(name=f"{base_uuid}.vhd", uuid=uuids.UUID(base_uuid)) if base_uuid else None
        emitter = VhdEmitter(ahead, uuid=uuid, timestamp=to_vhd(world.clock.now_s()), indexes=indexes, parent=parent)
    label = keys.task_label(run_id, f"import of {disk.name}")
    try:
        with (
            open_import(
                session,
                vdi_ref,
                length_bytes=emitter.length_bytes,
                format=image_format.value,
                task_label=label,
                should_stop=lambda: cancel.cancelled,
            ) as target,
            cancel.waking(target.cancel),
        ):
            for piece in emitter.chunks(BufferPool(1)):
                target.write(piece)
                waited = world.throttle.take(len(piece), cancel)
                if waited:
                    meter.busy("throttle", waited)
                meter.add(len(piece))
            target.finish()
    except TransferCancelled:
        cancel.check()
        raise
    finally:
        ahead.close()


def restore_to_vdi(
    world: World,
    session: Session,
    repository: Repository,
    point: RestorePoint,
    disk: PointDisk,
    *,
    vdi_uuid: str,
    check: bool = True,
) -> Written:
    """Overwrite an existing VDI with the disk."""
    pool_uuid = next((str(one["uuid"]) for one in session.records("pool").values()), "")
    recover(world, session, pool_uuid)
    ref = session.by_uuid("VDI", vdi_uuid)
    record = session.record("VDI", ref)
    active = Active(
        run_id=world.new_id(),
        job_id="",
        job="restore",
        pool_uuid=pool_uuid,
        vm_uuid=vdi_uuid,
        since_s=world.clock.now_s(),
        kind=RESTORE_DISK,
    )
    source = open_source(repository, point, disk, check=check)
    try:
        refuse_target(session, record, source.virtual_size_bytes)
        size = int(record["virtual_size"])
        indexes = list(range(-(-size // BLOCK_BYTES)))
        meter = world.progress.meter(disk.name_label or disk.live_vdi_uuid, stage="restore")
        try:
            with marked_active(world.active_directory, active):
                send_disk(
                    world,
                    session,
                    Padded(source, size),
                    ref,
                    indexes=indexes,
                    run_id=active.run_id,
                    meter=meter,
                    cancel=world.cancel,
                    workers=1 if isinstance(source, ArchiveDisk) else None,
                )
        except BaseException:
            end_tasks(session, active.run_id)
            raise
        finally:
            world.progress.drop(meter)
        return Written(
            size_bytes=size, blocks=len(indexes), compared=source.compared, unchecked=source.without_digest
        )
    finally:
        source.close()


def refuse_target(session: Session, vdi: dict[str, Any], size_bytes: int) -> None:
    """Raise :class:`UsageError` unless the VDI may be overwritten with a disk of that size."""
    name = f"VDI {vdi.get('uuid')} ({vdi.get('name_label')})"
    if vdi.get("is_a_snapshot"):
        raise UsageError(f"{name}: it is a snapshot")
    if not vdi.get("managed", True) or vdi.get("missing"):
        raise UsageError(f"{name}: it is not a usable disk")
    if vdi.get("read_only"):
        raise UsageError(f"{name}: it is read-only")
    if int(vdi["virtual_size"]) < size_bytes:
        raise UsageError(f"{name}: expected at least {size_bytes} bytes, found {vdi['virtual_size']}")
    for ref in vdi.get("VBDs", []):
        vbd = session.record("VBD", ref)
        if vbd.get("currently_attached"):
            holder = session.record("VM", vbd["VM"])
            raise UsageError(
                f"{name}: it is attached to VM {holder.get('name_label')} ({holder.get('uuid')})",
                hint="shut that VM down, or unplug the disk",
            )
