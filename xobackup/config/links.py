"""``[links.NAME]``: lines between sites, and what may cross them at a time."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import field_validator, model_validator

from xobackup.config.limits import Count, RateText, WindowSection, checked_zone, parse_rate
from xobackup.config.section import Section
from xobackup.config.sites import Sites


class LinkSection(Section):
    """What one site reads from, or writes to, places at the other; both directions together."""

    between: Sites
    """Two sites."""
    rate: RateText | None = None
    """``50 MB/s``: outside of the windows of ``bandwidth``."""
    bandwidth: tuple[WindowSection, ...] = ()
    """Other rates at some times of the day; the first window that holds counts."""
    timezone: str = ""
    """Of these windows; as ``[limits]`` says when absent."""
    transfers_max: Count | None = None
    """At a time; 0 is no limit."""

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return checked_zone(value)

    @field_validator("between")
    @classmethod
    def _two(cls, value: Sites) -> Sites:
        if len(value) != 2 or value[0] == value[1]:
            raise ValueError(f"expected two different sites, found {', '.join(value) or 'none'}")
        return value

    @model_validator(mode="after")
    def _limits_something(self) -> LinkSection:
        if self.rate is None and not self.bandwidth and not self.transfers_max:
            raise ValueError("expected a limit: rate, bandwidth or transfers_max")
        return self

    @property
    def rate_bytes_s(self) -> float | None:
        return None if self.rate is None else parse_rate(self.rate)


def doubled(links: Mapping[str, LinkSection]) -> list[str]:
    """Links between the same sites: which of them would count?"""
    first: dict[frozenset[str], str] = {}
    problems = []
    for name, link in links.items():
        pair = frozenset(link.between)
        if (other := first.setdefault(pair, name)) != name:
            problems.append(f"links.{name}: link {other!r} is between {' and '.join(sorted(pair))} already")
    return problems
