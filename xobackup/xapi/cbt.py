"""Changed block tracking on the pool: whether it can be used for a delta, why not, and switching it on.

The log belongs to the live disk and becomes its next snapshot's; so the first delta is possible between two
snapshots that were both taken while tracking was on, the older of which may have lost its data (``cbt_metadata``). A
host crash, a storage migration or a failed resize switch tracking off silently: the state is looked at in every run.
XAPI's ``allowed_operations`` never list what concerns CBT, and hosts older than 7.3 do not have the field at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from xobackup.xapi.changed_blocks import ChangedBlocks
from xobackup.xapi.errors import FullNeeded, NotFound, NotSupported, XapiFailure
from xobackup.xapi.retry import retry_busy

if TYPE_CHECKING:
    from xobackup.xapi.records import SmRecord, VdiRecord
    from xobackup.xapi.session import Session

METADATA_TYPE = "cbt_metadata"
SM_FEATURE = "VDI_CONFIG_CBT"


class Why(Enum):
    """Why changed blocks cannot be listed, or tracking not be switched on."""

    OLD_HOST = "the host is older than changed block tracking (7.3)"
    SR_UNABLE = "this kind of SR cannot track changed blocks"
    LICENCE = "the host's licence lacks changed block tracking"
    LIVE_OFF = "tracking is off on the disk"
    BASE_OFF = "tracking was off when the older snapshot was taken"
    SNAPSHOT_OFF = "tracking was off when the newer snapshot was taken"
    BASE_GONE = "the older snapshot is gone"
    SNAPSHOT_WITHOUT_DATA = "the newer snapshot has lost its data"
    OTHER_DISK = "the snapshots are of different disks"
    SHRUNK = "the disk is smaller than its older snapshot"
    NOT_LIVE = "a snapshot is not tracked, its disk is"
    TYPE = "disks of this type are not tracked"
    ON_BOOT_RESET = "the disk is reset on boot"
    INCONSISTENT = "the log is inconsistent (a host crashed, or storage failed)"
    UNRELATED = "the pool says that the snapshots are unrelated or the same"
    FAILED = "the storage could not switch tracking on"


@dataclass(frozen=True, slots=True, kw_only=True)
class CbtRefusal:
    """Why not, and what the pool said."""

    why: Why
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.why.value}: {self.detail}" if self.detail else self.why.value


_REFUSALS = {
    "SR_BACKEND_FAILURE_459": Why.INCONSISTENT,
    "SR_BACKEND_FAILURE_460": Why.UNRELATED,
    "SR_BACKEND_FAILURE_457": Why.FAILED,
    "VDI_NO_CBT_METADATA": Why.BASE_OFF,
    "VDI_INCOMPATIBLE_TYPE": Why.TYPE,
    "SR_OPERATION_NOT_SUPPORTED": Why.SR_UNABLE,
    "LICENCE_RESTRICTION": Why.LICENCE,
    "LICENSE_RESTRICTION": Why.LICENCE,
    "FEATURE_RESTRICTED": Why.LICENCE,
    "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION": Why.ON_BOOT_RESET,
    "OPERATION_NOT_ALLOWED": Why.NOT_LIVE,
}


def delta_refusal(*, live: VdiRecord, base: VdiRecord | None, snapshot: VdiRecord) -> CbtRefusal | None:
    """Why the changes from ``base`` to ``snapshot`` cannot be listed, by the records; ``None``: they should be.

    ``live`` is their disk: where its tracking went off, by a crash or by hand, the log is not relied on either.
    """
    if not _known(snapshot):
        return CbtRefusal(why=Why.OLD_HOST)
    if base is None:
        return CbtRefusal(why=Why.BASE_GONE)
    if snapshot.type == METADATA_TYPE:
        return CbtRefusal(why=Why.SNAPSHOT_WITHOUT_DATA)
    if base.snapshot_of != snapshot.snapshot_of or base.ref == snapshot.ref:
        return CbtRefusal(why=Why.OTHER_DISK)
    if not snapshot.cbt_enabled:
        return CbtRefusal(why=Why.SNAPSHOT_OFF)
    if not base.cbt_enabled:
        return CbtRefusal(why=Why.BASE_OFF)
    if base.virtual_size > snapshot.virtual_size:
        return CbtRefusal(why=Why.SHRUNK, detail=f"{base.virtual_size} bytes, now {snapshot.virtual_size}")
    return None if live.cbt_enabled else CbtRefusal(why=Why.LIVE_OFF)


def enable_refusal(live: VdiRecord, sm: SmRecord | None = None) -> CbtRefusal | None:
    """Why tracking cannot be switched on, by the records; ``sm`` is that of the disk's SR."""
    if not _known(live):
        return CbtRefusal(why=Why.OLD_HOST)
    if live.is_a_snapshot:
        return CbtRefusal(why=Why.NOT_LIVE)
    if live.type not in ("user", "system"):
        return CbtRefusal(why=Why.TYPE, detail=live.type)
    if live.on_boot == "reset":
        return CbtRefusal(why=Why.ON_BOOT_RESET)
    if sm is not None and SM_FEATURE not in sm.features:
        return CbtRefusal(why=Why.SR_UNABLE, detail=sm.type)
    return None


def enable(session: Session, live: VdiRecord, sm: SmRecord | None = None) -> CbtRefusal | None:
    """Switch tracking on where it is off (allowed while the disk is in use); returns why not, if it cannot be."""
    refusal = enable_refusal(live, sm)
    if refusal is not None or live.cbt_enabled:
        return refusal
    try:
        session.call("VDI.enable_cbt", live.ref)
    except XapiFailure as error:
        return _refused(error)
    return None


def changed_between(session: Session, base: VdiRecord, snapshot: VdiRecord) -> ChangedBlocks | CbtRefusal:
    """The changes from ``base`` to ``snapshot``, or why the pool does not list them. Other failures are raised."""
    try:
        text = retry_busy(
            lambda: session.call("VDI.list_changed_blocks", base.ref, snapshot.ref, patient=False),
            clock=session.clock,
            timeouts=session.timeouts,
        )
    except NotFound as error:
        if any(name in error.params for name in (base.ref, base.uuid)):
            return CbtRefusal(why=Why.BASE_GONE, detail=str(error))
        raise
    except XapiFailure as error:
        return _refused(error)
    return ChangedBlocks.decode(text, virtual_size_bytes=snapshot.virtual_size)


def destroy_data(session: Session, snapshot_ref: str) -> None:
    """Destroy a snapshot's data and keep its log; its VM must be gone.

    The host waits only four seconds for whoever still holds the disk (NBD servers let go late), so it is asked again.
    """
    retry_busy(
        lambda: session.call("VDI.data_destroy", snapshot_ref, patient=False),
        clock=session.clock,
        timeouts=session.timeouts,
    )


def _refused(error: XapiFailure) -> CbtRefusal:
    """The reason in a failure; raises the failure if it is about something else."""
    why = _REFUSALS.get(error.code)
    if why is None and isinstance(error, NotSupported):
        why = Why.OLD_HOST
    if why is None and isinstance(error, FullNeeded):
        why = Why.UNRELATED
    if why is None:
        raise error
    return CbtRefusal(why=why, detail=str(error))


def _known(vdi: VdiRecord) -> bool:
    return "cbt_enabled" in vdi.raw
