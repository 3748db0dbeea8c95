"""The room that plans need on remotes, and what is done when there is not enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from remotes.errors import RemoteError
from xobackup.engine.plan import DiskPlan, VmPlan, estimate
from xobackup.engine.space.judge import HINT, THICK, Floor, Shortage, SpaceCheck, remote_shortage

if TYPE_CHECKING:
    from remotes.contract import Usage
    from xobackup.engine.job import Settings
    from xobackup.repository.repository import Repository


def usages_of(repositories: Mapping[str, Repository], names: Iterable[str]) -> dict[str, Usage | None]:
    """The space of these remotes; one that cannot tell, or does not answer now, is ``None``."""
    found: dict[str, Usage | None] = {}
    for name in names:
        try:
            found[name] = repositories[name].usage()
        except (RemoteError, OSError):
            found[name] = None
    return found


def remote_shortages(
    plans: Iterable[VmPlan], usages: Mapping[str, Usage | None], settings: Settings
) -> dict[str, Shortage]:
    """By remote: where ``plans`` together need more than there is."""
    if settings.space_check is SpaceCheck.OFF:
        return {}
    known = [plan for plan in plans if not plan.refusal]
    found: dict[str, Shortage] = {}
    for name, usage in usages.items():
        wanted, bound = wanted_bytes(known, name)
        shortage = remote_shortage(
            name,
            free_bytes=usage.free_bytes if usage else None,
            total_bytes=usage.total_bytes if usage else None,
            wanted_bytes=wanted,
            bound=bound,
            floor=settings.remote_free_min,
        )
        if shortage is not None:
            found[name] = shortage
    return found


def wanted_bytes(plans: Iterable[VmPlan], remote: str) -> tuple[int, bool]:
    """What ``plans`` write to a remote, and whether that is but a bound. (Whole archives are judged by themselves,
    before each transfer.)"""
    wanted, bound = 0, False
    for disk in (disk for plan in plans for disk in plan.disks):
        for route in disk.routes:
            if remote in route.remotes:
                wanted += estimate(disk.disk, route)
                bound = bound or not route.delta or _thick(disk)
    return wanted, bound


def _thick(disk: DiskPlan) -> bool:
    """The pool tells the size of the volume then, not what is in it."""
    return disk.disk.sr is not None and disk.disk.sr.type in THICK


__all__ = ["HINT", "Floor", "remote_shortages", "usages_of", "wanted_bytes"]
