"""Which remote takes a VM's next backup: pure, with the reason.

1. A chain stays where it is, as long as that remote can be reached and has room.
2. Otherwise, and for full backups always, a remote that could go on with deltas is better than one that could not (a
   job that wrote to all its remotes before has chains on each of them), and then the order is:
   remotes that have room for the most that can come, the most free first; remotes that cannot tell their free space
   (object stores), the one with the fewest VMs first; remotes on which it may not fit, the most free first.
3. Where no remote has room, one is taken nevertheless unless the job refuses that.

Free space is what is left once the VMs that the same run is at work on have got theirs. Ties go to the remote
that got the fewest VMs in this run, then to the first one named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xobackup.engine.space.judge import size_told

STAYS = "its chain is there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One remote of the job, as it is for one VM."""

    remote: str
    problem: str = ""
    """Why it cannot take the VM at all."""
    short: str = ""
    """Why it has no room."""
    newest_ms: int = 0
    """Time of the newest restore point of the VM by the job there; 0: none. Of a remote that could not be looked at:
    what the pool's snapshots say."""
    continues: bool = False
    """Every disk would be a delta there."""
    free_bytes: int | None = None
    """Left for this VM; ``None``: it cannot tell."""
    fits: bool = True
    """The most that can come is less than that."""
    vms: int = 0
    """It has, with those it got in this run; counted where free space is unknown."""
    given: int = 0
    """VMs that it got in this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a VM's backup goes. ``left``: why that is not where its chain is; ``""`` when it is, or there is none."""

    remote: str
    reason: str
    left: str = ""


def choose(members: Sequence[Member], *, chained: bool, refuse: bool = False) -> Placement | None:
    """The remote for a VM; ``None`` when there is none. ``chained``: its backups are deltas, so rule 1 holds;
    ``refuse``: a remote without room is none."""
    usable = [one for one in members if not one.problem and not (one.short and refuse)]
    roomy = [one for one in usable if not one.short]
    homes = _homes(members) if chained else []
    for choice in (roomy, usable):
        staying = [one for one in choice if one in homes]
        if staying:
            found = _best(staying)
            doubled = f", as on {_names(one for one in homes if one is not found)}" if len(homes) > 1 else ""
            return Placement(remote=found.remote, reason=f"{STAYS}{doubled}")
        if choice:
            found = _best(choice)
            left = "; ".join(f"its chain is on remote {one.remote}: {one.problem or one.short}" for one in homes)
            return Placement(remote=found.remote, reason=_why(found, choice), left=left)
    return None


def _homes(members: Sequence[Member]) -> list[Member]:
    """Those with the VM's newest restore point: more than one only where a job wrote to all of them before."""
    newest = max((one.newest_ms for one in members), default=0)
    return [one for one in members if newest and one.newest_ms == newest]


def _best(members: Sequence[Member]) -> Member:
    return min(members, key=lambda one: (not one.continues, *_order(one)))


def _order(one: Member) -> tuple[int, int, int]:
    """Smaller is better; see the module's head."""
    if one.free_bytes is None:
        return (1, one.vms, one.given)
    return (0 if one.fits else 2, -one.free_bytes, one.given)


def _why(found: Member, among: Sequence[Member]) -> str:
    others = [one for one in among if one is not found]
    if found.continues and not all(one.continues for one in others):
        return "it can be continued there with deltas"
    if not others:
        return "no other remote can take it"
    if found.free_bytes is None:
        known = [one for one in others if one.free_bytes is not None]
        told = f"the remotes that do ({_names(known)}) may lack the room" if known else "none does"
        return f"it does not tell its free space, {told}; {found.vms} VMs are there"
    free = f"{size_told(found.free_bytes)} free"
    if any(one.free_bytes == found.free_bytes for one in others):
        return f"{free}, as much as anywhere, and no more VMs of this run than elsewhere"
    return f"{free}, the most" if found.fits else f"{free}, the most, though all of it may not fit"


def _names(members: Iterable[Member]) -> str:
    return ", ".join(one.remote for one in members)
