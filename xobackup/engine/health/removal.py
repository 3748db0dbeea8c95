"""The VM of a health check goes: at its end, or at the next start when the check died.

Its disks first, its record last: whatever stops this in between, the record still leads to what is left. Only disks
that carry the check's id are destroyed: what somebody attached to the VM meanwhile is his.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from xobackup.engine import keys
from xobackup.engine.removal import destroy_vdi
from xobackup.engine.taking.taken import vdis_of
from xobackup.xapi.errors import NotFound
from xobackup.xapi.other_config import set_key
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.xapi.session import Session


def remove_check(session: Session, vm_ref: str, check_id: str) -> None:
    """Stop and destroy it. What is gone already counts as done; raises :class:`XapiError` when the pool says no."""
    with contextlib.suppress(NotFound):
        record = session.record("VM", vm_ref)
        for operation in ("hard_shutdown", "destroy"):
            if operation in record.get("blocked_operations", {}):
                set_key(session, "VM", vm_ref, operation, None, field="blocked_operations")
        if record["power_state"] != "Halted":
            session.call_async("VM.hard_shutdown", vm_ref)  # the memory of a suspended VM goes with that
        disks = vdis_of(session, vm_ref)
        memory = session.call("VM.get_suspend_VDI", vm_ref)
        if not is_null(memory):
            with contextlib.suppress(NotFound):
                disks[memory] = session.record("VDI", memory)
        for vdi_ref, vdi in disks.items():
            if check_of(vdi.get("other_config")) == check_id and not vdi.get("is_a_snapshot"):
                destroy_vdi(session, vdi_ref)
        session.call_async("VM.destroy", vm_ref)


def check_of(config: object) -> str:
    """The id of the check that made what has this ``other_config``; empty for anything else."""
    text = config.get(keys.HEALTH_CHECK) if isinstance(config, dict) else ""
    return text.partition(" ")[0] if isinstance(text, str) else ""
