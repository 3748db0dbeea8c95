"""What crosses the line between two sites: pure.

A place (pool, remote, target) with sites is at these only; one without is at no site, so nothing that goes there
crosses a line that we know. What a process at one site reads from, or writes to, a place that is only at another one
crosses the link between the two, if there is one. Of a place with several sites the first one that a link leads to
counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xobackup.engine.limits.bandwidth import Timetable


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The line between two sites. ``bandwidth``: of all that crosses, both directions together; ``transfers_max``: at
    a time, ``None``: any number."""

    name: str
    between: tuple[str, str]
    bandwidth: Timetable = field(default_factory=Timetable)
    transfers_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The links that there are, seen from ``here``. ``sites``: of each place; pools are called ``pool:NAME``."""

    here: str = ""
    sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: tuple[Link, ...] = ()

    def between(self, one: str, other: str) -> Link | None:
        """What goes from one site to the other crosses this."""
        if one == other:
            return None
        return next((link for link in self.links if {one, other} == set(link.between)), None)

    def to(self, place: str) -> Link | None:
        """What goes from here to a place, or comes from there, crosses this. ``place`` may be one SR of a target
        (``dr1:Local storage``)."""
        of = self.sites.get(place)
        if of is None and not place.startswith("pool:"):
            of = self.sites.get(place.partition(":")[0])
        if not of or not self.here or self.here in of:
            return None
        return next((link for site in of if (link := self.between(self.here, site)) is not None), None)

    def crossed(self, places: Iterable[str]) -> dict[str, list[str]]:
        """The names of the links that lead to these places -> the places beyond."""
        found: dict[str, list[str]] = {}
        for place in dict.fromkeys(places):
            if (link := self.to(place)) is not None:
                found.setdefault(link.name, []).append(place)
        return found

    def named(self, name: str) -> Link:
        """The link called so."""
        return next(link for link in self.links if link.name == name)


def place_text(place: str) -> str:
    """``pool lyon`` for ``pool:lyon``."""
    return place.replace("pool:", "pool ", 1) if place.startswith("pool:") else place
