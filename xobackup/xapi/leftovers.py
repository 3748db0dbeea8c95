"""VBDs that a broken transfer left on a control domain.

During an export or import the host attaches the disk to its control domain and detaches it afterwards; after a
crash the VBD stays, and the disk cannot be destroyed (VDI_IN_USE). Only VBDs that were not there before the
transfer are ours to remove.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from xobackup.xapi.errors import NotFound, ProtocolError, XapiFailure

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

_DETACHED = frozenset({"DEVICE_ALREADY_DETACHED"})


def vbds_of(session: Session, vdi_ref: str) -> frozenset[str]:
    """The VBDs a disk has now: to remember before a transfer."""
    found = session.call("VDI.get_VBDs", vdi_ref)
    if not isinstance(found, list):
        raise ProtocolError("VDI.get_VBDs", f"expected a list, found {type(found).__name__}")
    return frozenset(str(ref) for ref in found)


def release(session: Session, vdi_ref: str, *, before: Collection[str] = (), wait_s: float = 10.0) -> list[str]:
    """After a failed transfer: remove the disk's VBDs on control domains that were not there ``before``.

    The host gets ``wait_s`` to do it itself. Returns the VBDs removed.
    """
    clock = session.clock
    deadline = clock.monotonic_s() + wait_s
    left = _left_behind(session, vdi_ref, before)
    while left and clock.monotonic_s() < deadline:
        clock.sleep(min(session.timeouts.poll_s, wait_s))
        left = _left_behind(session, vdi_ref, before)
    return [ref for ref in left if _remove(session, ref)]


def _left_behind(session: Session, vdi_ref: str, before: Collection[str]) -> list[str]:
    try:
        new = vbds_of(session, vdi_ref) - set(before)
        return sorted(ref for ref in new if _is_on_control_domain(session, ref))
    except NotFound:
        return []  # the disk itself is gone


def _is_on_control_domain(session: Session, vbd_ref: str) -> bool:
    try:
        return session.call("VM.get_is_control_domain", session.call("VBD.get_VM", vbd_ref)) is True
    except NotFound:
        return False  # removed meanwhile


def _remove(session: Session, vbd_ref: str) -> bool:
    try:
        session.call("VBD.unplug", vbd_ref)
    except NotFound:
        return False
    except XapiFailure as error:
        if error.code not in _DETACHED:
            raise
    try:
        session.call("VBD.destroy", vbd_ref)
    except NotFound:
        return False
    return True
