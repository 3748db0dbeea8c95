"""What a restored VM has besides disks and NICs: its memory, CD drives, virtual TPMs, BIOS strings.

None of them must keep the disks from coming back: what a host cannot have is left out, with a warning.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from xobackup.engine.restore.records import CD_DEVICE, cd_record
from xobackup.xapi.errors import XapiError, XapiFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.engine.restore.plan import RestorePlan
    from xobackup.xapi.session import Session

AUTODETECT = "autodetect"


def create_devices(session: Session, vm_ref: str, plan: RestorePlan, warn: Callable[[str], None]) -> None:
    """All of them but the memory."""
    for number in range(plan.cd_drives):
        _cd_drive(session, vm_ref, CD_DEVICE if number == 0 else AUTODETECT, warn)
    for contents in plan.vtpms:
        _vtpm(session, vm_ref, contents, warn)
    if plan.bios_strings:
        try:
            session.call("VM.set_bios_strings", vm_ref, dict(plan.bios_strings))
        except XapiFailure as error:
            warn(f"its BIOS strings could not be restored: {error}")


def _cd_drive(session: Session, vm_ref: str, userdevice: str, warn: Callable[[str], None]) -> None:
    """An empty one, where it was if that is free."""
    record = {**cd_record(userdevice), "VM": vm_ref}
    with contextlib.suppress(XapiFailure):
        session.call("VBD.create", record)
        return
    try:
        session.call("VBD.create", {**record, "userdevice": AUTODETECT})
    except XapiFailure as error:
        warn(f"its CD drive could not be restored: {error}")


def _vtpm(session: Session, vm_ref: str, contents: str, warn: Callable[[str], None]) -> None:
    try:
        vtpm = session.call("VTPM.create", vm_ref, False)
        session.call("VTPM.set_contents", vtpm, contents)
    except XapiFailure as error:
        warn(f"the virtual TPM could not be restored: {error}")


def run(session: Session, vm_ref: str) -> None:
    """Start the VM, or resume it where it was suspended."""
    suspended = session.call("VM.get_power_state", vm_ref) == "Suspended"
    session.call_async("VM.resume" if suspended else "VM.start", vm_ref, False, False)


def forget_memory(session: Session, vm_ref: str, warn: Callable[[str], None]) -> bool:
    """A suspended VM becomes a halted one: its memory is destroyed. Returns whether it was."""
    try:
        if session.call("VM.get_power_state", vm_ref) == "Suspended":
            session.call_async("VM.hard_shutdown", vm_ref)
            return True
    except XapiError as error:
        warn(f"the VM could not be made a halted one: {error}")
    return False
