"""Removing what was taken when nothing will ever continue from it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from xobackup.engine.removal import remove_snapshot
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.taking.taken import Taken
    from xobackup.xapi.session import Session


def drop_taken(session: Session, taken: Taken) -> None:
    """Remove the snapshot with its disks; never a VM itself. The next run removes what stays."""
    if not taken.snapshot:
        return
    with contextlib.suppress(XapiError):
        remove_snapshot(session, taken.ref, dict(taken.vdis.values()))
