"""Removing snapshots from a pool, and only snapshots.

The disks go first, the VM's record last: whatever stops this in between, the record still leads to what is left. A
VDI that is not a snapshot, or hangs on anything but its own VM snapshot and control domains, is never destroyed. A
disk that a transfer has just left may still be attached to a control domain; it is detached and tried again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xobackup.xapi.errors import Busy, NotFound, XapiError, XapiFailure
from xobackup.xapi.leftovers import release
from xobackup.xapi.retry import retry_busy
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

Record = dict[str, Any]
SUSPEND = "suspend"
"""The type of a memory image."""


def remove_snapshot(session: Session, vm_ref: str, vdis: Mapping[str, Record]) -> list[str]:
    """Destroy a VM snapshot (``""``: none, orphan disks only) and its disks; returns the VDI uuids that are gone.

    Raises ``Busy`` when a disk stays in use; calling again continues. What is gone already counts as done.
    """
    gone = remove_disks(session, vdis, holder=vm_ref)
    if vm_ref:
        with contextlib.suppress(NotFound):
            if session.call("VM.get_is_a_snapshot", vm_ref):
                remove_memory(session, vm_ref)
                session.call_async("VM.destroy", vm_ref)
    return gone


def remove_memory(session: Session, vm_ref: str) -> None:
    """Destroy the memory image of a VM snapshot: destroying the VM leaves it."""
    image = session.call("VM.get_suspend_VDI", vm_ref)
    if is_null(image):
        return
    with contextlib.suppress(NotFound):
        if session.record("VDI", image).get("type") == SUSPEND:
            destroy_vdi(session, image)


def remove_disks(session: Session, vdis: Mapping[str, Record], *, holder: str) -> list[str]:
    """Destroy snapshots of disks that hang on nothing but the VM snapshot ``holder``; returns their uuids."""
    gone: list[str] = []
    for vdi_ref, record in vdis.items():
        if record.get("is_a_snapshot") and not _held_elsewhere(session, vdi_ref, holder):
            destroy_vdi(session, vdi_ref)
            gone.append(str(record.get("uuid", "")))
    return gone


def destroy_vdi(session: Session, vdi_ref: str) -> None:
    """Destroy a VDI, detaching it from control domains when they still hold it."""

    def detach(_attempt: int, _error: XapiError) -> None:
        detach_from_control_domains(session, vdi_ref)

    with contextlib.suppress(NotFound):
        retry_busy(
            lambda: session.call_async("VDI.destroy", vdi_ref, patient=False),
            clock=session.clock,
            timeouts=session.timeouts,
            when=lambda error: isinstance(error, Busy),
            on_retry=detach,
        )


def detach_from_control_domains(session: Session, vdi_ref: str) -> int:
    """Detach a snapshot's VDI from control domains, where a broken transfer left it; returns how many times."""
    with contextlib.suppress(XapiFailure):  # best effort: the caller tries the real thing again anyway
        return len(release(session, vdi_ref, wait_s=0.0))
    return 0


def _held_elsewhere(session: Session, vdi_ref: str, vm_ref: str) -> bool:
    """Whether the VDI hangs on a VM other than ``vm_ref`` and control domains."""
    try:
        vbds = session.call("VDI.get_VBDs", vdi_ref)
    except NotFound:
        return False
    for vbd_ref in vbds:
        with contextlib.suppress(NotFound):  # that VBD has just gone: it holds nothing
            holder = session.call("VBD.get_VM", vbd_ref)
            if holder != vm_ref and not session.call("VM.get_is_control_domain", holder):
                return True
    return False
