"""Which site does a VM: the one nearest to the data. Pure.

A place (pool, remote, target) with sites is reached from these only, one without from everywhere. A site can do a VM
when its living workers reach the pool and everything the backup goes to, by the sites and by what their own
configurations name. Of those the one that most places name as theirs is nearest; then the one with the least to do.
Where there is none, and this machine cannot either, a site will do that reaches all but some targets for replicas,
when workers with relays lead to the pools of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xobackup.workers.kinds import VM, knows
from xobackup.workers.records import ANYWHERE, Seen

if TYPE_CHECKING:
    from xobackup.workers.peers import Peer

POOL = "pool:"
"""Before the name of a pool, where pools and remotes stand together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a VM of a job needs. Sites by name; an empty tuple is *everywhere*."""

    pool: str
    pool_sites: tuple[str, ...] = ()
    remotes: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, tuple[str, ...]]
    target_pools: Mapping[str, str] = field(default_factory=dict)
    """The pools of ``targets``: to their hosts a relay can lead."""

    @property
    def places(self) -> list[tuple[str, tuple[str, ...]]]:
        """Everything, the pool first, with its sites."""
        return [(self.pool, self.pool_sites), *self.remotes.items(), *self.targets.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``queue``: of which site, :data:`ANYWHERE`, or ``None``: it is done here; ``waits``: there is nobody yet."""

    queue: str | None
    reason: str
    waits: bool = False
    through: Mapping[str, str] = field(default_factory=dict)
    """Places that it does not reach, and the sites through whose relays it is led there."""

    def same_way(self, other: Choice) -> bool:
        """Whether somebody who waits by ``other`` waits well."""
        return (self.queue, dict(self.through)) == (other.queue, dict(other.through))


def reaches(site: str, places: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Names of the places that are out of reach from ``site``."""
    return [name for name, sites in places if sites and site not in sites]


def choose(
    need: Need,
    workers: Sequence[Seen],
    *,
    here: str,
    loads: Mapping[str, int],
    kind: str = VM,
    peers: Sequence[Peer] = (),
) -> Choice:
    """``here``: the control node's own site; ``loads``: tasks that wait, by queue; ``kind``: of the task
    (:mod:`xobackup.workers.kinds`): who does not know it does not count; ``peers``: those of the workers that know
    relays, and have them."""
    places = need.places
    able: dict[str, list[Seen]] = {}
    for one in workers:
        able_here = not reaches(one.worker.site, places) and _knows(one, need) and knows(one.worker.reach, kind)
        if one.alive and not one.worker.draining and able_here:
            able.setdefault(one.worker.site, []).append(one)
    if able:
        best = min(able, key=lambda site: (-nearness(site, places), load(able[site], loads.get(site, 0)), site))
        if not best:
            return Choice(queue=ANYWHERE, reason="any worker reaches everything it needs")
        return Choice(queue=best, reason=_told(best, places))
    if not reaches(here, places):
        return Choice(queue=None, reason="no living worker reaches what it needs: done here")
    if led := _led(need, workers, peers, loads):
        return led
    far = ", ".join(reaches(here, places))
    sites = sorted({site for _, sites in places for site in sites})
    common = [site for site in sites if not reaches(site, places)]
    if not common:
        told = f"no site reaches all of {', '.join(name for name, sites in places if sites)}"
        if need.targets:
            told += f", and no worker with a relay lives that leads to {', '.join(need.targets)}"
        return Choice(queue=None, waits=True, reason=told)
    which = "" if kind == VM else f" that knows tasks of the kind {kind}"
    told = f"{far} cannot be reached from here, and no worker of site {' or '.join(common)}{which} lives"
    return Choice(queue=common[0], waits=True, reason=told)


def _led(need: Need, workers: Sequence[Seen], peers: Sequence[Peer], loads: Mapping[str, int]) -> Choice | None:
    """A site that reaches all but some targets, and for each of these a site whose relay leads to its pool."""
    known = {peer.worker: peer for peer in peers}
    alive = [one for one in workers if one.alive and not one.worker.draining and one.worker.id in known]
    source = [(need.pool, need.pool_sites), *need.remotes.items()]
    found: list[tuple[tuple[int, int, float, str], Choice]] = []
    for site in sorted({one.worker.site for one in alive}):
        far = [name for name, of in need.targets.items() if reaches(site, [(name, of)])]
        near = Need(
            pool=need.pool,
            remotes=need.remotes,
            targets={name: of for name, of in need.targets.items() if name not in far},
        )
        able = [one for one in alive if one.worker.site == site and _knows(one, near)]
        if not able or not far or reaches(site, source):
            continue
        through: dict[str, str] = {}
        for name in far:
            pool = need.target_pools.get(name, "")
            if leading := _leading(pool, name, need.targets[name], alive, known):
                through[f"{POOL}{pool}"] = leading
            else:
                break
        else:
            names = [name for name, of in [*source, *near.targets.items()] if site in of]
            told = f"site {site} is nearest to {', '.join(names)}" if names else f"workers of site {site} do it"
            ways = ", ".join(f"{name} through the relay at {through[POOL + need.target_pools[name]]}" for name in far)
            rank = (len(far), -nearness(site, source), load(able, loads.get(site, 0)), site)
            found.append((rank, Choice(queue=site or ANYWHERE, reason=f"{told}; {ways}", through=through)))
    return min(found, key=lambda one: one[0])[1] if found else None


def _leading(pool: str, target: str, sites: tuple[str, ...], alive: Sequence[Seen], known: Mapping[str, Peer]) -> str:
    """A site with a relay whose worker reaches the pool and the target; ``""``: none."""
    able = {
        one.worker.site
        for one in alive
        if known[one.worker.id].relays
        and one.worker.site in sites
        and pool in one.worker.reach.get("pools", ())
        and target in one.worker.reach.get("targets", ())
    }
    return min(able, default="")


def _knows(one: Seen, need: Need) -> bool:
    reach = one.worker.reach
    wanted = (("pools", [need.pool]), ("remotes", need.remotes), ("targets", need.targets))
    return all(name in reach.get(kind, ()) for kind, names in wanted for name in names)


def nearness(site: str, places: Sequence[tuple[str, tuple[str, ...]]]) -> int:
    """How many of them name the site."""
    return sum(site in sites for _, sites in places)


def load(able: Sequence[Seen], waiting: int) -> float:
    """Tasks per slot."""
    slots = sum(one.worker.slots for one in able)
    return (waiting + sum(len(one.doing) for one in able)) / max(1, slots)


def _told(site: str, places: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    near = [name for name, sites in places if site in sites]
    return f"site {site} is nearest to {', '.join(near)}" if near else f"workers of site {site} have the least to do"
