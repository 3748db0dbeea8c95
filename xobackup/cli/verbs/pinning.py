"""Restore points pinned, and pins taken off."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xobackup.engine.job import RemoteTarget
    from xobackup.repository.pins import Pin


def pin_points(remote: RemoteTarget, vm: str, points: Sequence[str], pin: Pin | None) -> tuple[str, list[str]]:
    """Pin them, or (``None``) let retention decide again; takes the VM's lock. Returns its uuid and which it were."""
    from xobackup.cli import repositories
    from xobackup.cli.options import LOCK_WAIT_S

    with repositories.opened(remote) as repository:
        uuid = repositories.find_vm(repository, vm)
        chosen = [repositories.find_point(repository, uuid, point).id for point in points]
        with repository.lock(uuid, timeout_s=LOCK_WAIT_S, purpose="backups pin") as directory:
            return uuid, directory.pin(chosen, pin)
