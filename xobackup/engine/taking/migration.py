"""The VM stays on its pool while it is backed up. Our blocks are known by their words; those of others stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xobackup.engine import keys
from xobackup.xapi.errors import NotFound
from xobackup.xapi.other_config import block_operations, unblock_operations

if TYPE_CHECKING:
    from xobackup.xapi.session import Session


@contextmanager
def migration_blocked(session: Session, vm_ref: str, job_id: str) -> Iterator[None]:
    """Keep the VM where it is while inside. What others had blocked stays as it was."""
    try:
        block_operations(session, vm_ref, reason=keys.blocked_text(job_id))
        yield
    finally:
        with contextlib.suppress(NotFound):  # the VM was deleted meanwhile
            unblock_migration(session, vm_ref, job_id)


def unblock_migration(session: Session, vm_ref: str, job_id: str) -> list[str]:
    """Remove the blocks that this job put there; returns which."""
    return unblock_operations(session, vm_ref, reason=keys.blocked_text(job_id))
