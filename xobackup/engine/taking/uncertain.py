"""Did it happen? What to do when the answer to a snapshot was lost, or its task vanished before its end was seen.

A snapshot must not be taken again blindly. Its name is unique (it carries job and run), and while one is being taken
the VM says so (``current_operations``): so the pool is asked until it is certain that there is one, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xobackup.xapi.errors import NotFound

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

LOOKS_MAX = 150
"""Looks at a VM that goes on taking a snapshot, ``poll_s`` apart: five minutes."""
QUIET_LOOKS = 2
"""Looks without such an operation before it is certain that none is on its way any more."""
_TAKING = frozenset({"snapshot", "checkpoint", "snapshot_with_quiesce"})


def snapshot_taken(session: Session, vm_ref: str, name: str, *, should_stop: Callable[[], bool]) -> str | None:
    """The snapshot called ``name``, ``None`` when there is certainly none; waits while one is being taken."""
    quiet = 0
    for _ in range(LOOKS_MAX):
        found = _named(session, vm_ref, name)
        if found is not None:
            return found
        operations = session.call("VM.get_current_operations", vm_ref)
        quiet = 0 if _TAKING & set(dict(operations).values()) else quiet + 1
        if quiet > QUIET_LOOKS or should_stop():
            return None
        session.clock.sleep(session.timeouts.poll_s)
    return None


def _named(session: Session, vm_ref: str, name: str) -> str | None:
    for ref in session.call("VM.get_snapshots", vm_ref):
        try:
            if session.call("VM.get_name_label", ref) == name:
                return str(ref)
        except NotFound:
            continue
    return None
