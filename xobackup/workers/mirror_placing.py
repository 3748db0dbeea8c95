"""Which site copies a VM's restore points from one remote to another. Pure.

Where one site reaches both, its workers do it, or this machine does when there are none. Else it is done at the
target's site, which writes, and the source is read through the relay of a worker at a site that reaches it. Who has
told the board no certificate is of a version that knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xobackup.workers.placing import Choice, load, nearness, reaches
from xobackup.workers.records import ANYWHERE, Seen

if TYPE_CHECKING:
    from xobackup.workers.peers import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorNeed:
    """``target``: ``""`` when the source is only to be listed. Sites by name; none is *everywhere*."""

    source: str
    source_sites: tuple[str, ...] = ()
    target: str = ""
    target_sites: tuple[str, ...] = field(default=())

    @property
    def source_place(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(self.source, self.source_sites)]

    @property
    def target_place(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(self.target, self.target_sites)] if self.target else []


def choose_mirror(
    need: MirrorNeed, workers: Sequence[Seen], peers: Sequence[Peer], *, here: str, loads: Mapping[str, int]
) -> Choice:
    """``here``: the control node's own site; ``loads``: tasks that wait, by queue."""
    places = [*need.target_place, *need.source_place]  # the target first: it decides between equals
    known = {peer.worker for peer in peers}
    alive = [one for one in workers if one.alive and not one.worker.draining and one.worker.id in known]
    able = [one for one in alive if _can(one, places)]
    if able:
        site = _best(able, need, loads)
        near = [name for name, sites in places if site in sites]
        told = f"site {site} is nearest to {', '.join(near)}" if near else f"{_whose(site)} reach all it needs"
        return Choice(queue=site or ANYWHERE, reason=told)
    if not reaches(here, places):
        return Choice(queue=None, reason="no living worker reaches what it needs: done here")
    writers = [
        one
        for one in alive
        if need.target_place and _can(one, need.target_place) and not _can(one, need.source_place)
    ]
    leading = _leading(need, alive, peers)
    if writers and leading:
        site = _best(writers, need, loads)
        told = f"site {site} is nearest to {need.target}" if site in need.target_sites else f"{_whose(site)} do it"
        through = {need.source: leading}
        return Choice(
            queue=site or ANYWHERE, reason=f"{told}; {need.source} through the relay at {leading}", through=through
        )
    return Choice(queue=None, waits=True, reason=_missing(need, here, writers=bool(writers), leading=bool(leading)))


def _can(one: Seen, places: Sequence[tuple[str, tuple[str, ...]]]) -> bool:
    """It reaches them, and its configuration knows them."""
    names = one.worker.reach.get("remotes", ())
    return not reaches(one.worker.site, places) and all(name in names for name, _ in places)


def _best(able: Sequence[Seen], need: MirrorNeed, loads: Mapping[str, int]) -> str:
    by_site: dict[str, list[Seen]] = {}
    for one in able:
        by_site.setdefault(one.worker.site, []).append(one)
    return min(
        by_site,
        key=lambda site: (
            -nearness(site, need.target_place),
            -nearness(site, need.source_place),
            load(by_site[site], loads.get(site, 0)),
            site,
        ),
    )


def _leading(need: MirrorNeed, alive: Sequence[Seen], peers: Sequence[Peer]) -> str:
    """A site with a living relay that reaches the source; ``""``: none. A worker without a site leads nowhere, as
    nobody could say to whose relay he wants."""
    relays = {peer.worker for peer in peers if peer.relays}
    sites = {
        one.worker.site
        for one in alive
        if one.worker.id in relays and one.worker.site and _can(one, need.source_place)
    }
    return min(sites, default="")


def _whose(site: str) -> str:
    return f"workers of site {site}" if site else "any workers"


def _missing(need: MirrorNeed, here: str, *, writers: bool, leading: bool) -> str:
    places = [*need.target_place, *need.source_place]
    far = ", ".join(name for name in reaches(here, places))
    if not need.target_place:
        return f"{far} cannot be reached from here, and no worker of site {' or '.join(need.source_sites)} lives"
    told = f"{far} cannot be reached from here"
    if not writers:
        told += f", no worker lives that reaches {need.target}"
    if not leading:
        told += f", {'and ' if not writers else ''}no worker with a relay lives that reaches {need.source}"
    return told
