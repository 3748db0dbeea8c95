"""From the configuration's limits to the engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xobackup.config.limits import CountsSection, WindowSection
    from xobackup.config.links import LinkSection
    from xobackup.config.model import Configuration
    from xobackup.engine.limits.bandwidth import Timetable
    from xobackup.engine.limits.links import Links
    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.engine.limits.settings import Limits
    from xobackup.engine.space.judge import Floor

MIB = 1 << 20
COUNTS = (
    "transfers_per_pool",
    "transfers_per_host",
    "transfers_per_sr",
    "snapshots_per_pool",
    "snapshots_per_sr",
    "deletions_per_sr",
)


def process_limits(configuration: Configuration) -> ProcessLimits:
    """One for everything that this process does."""
    from dataclasses import replace

    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.engine.limits.settings import PROCESS_DEFAULTS

    section, zone = configuration.limits, configuration.limits.timezone
    return ProcessLimits(
        limits=replace(counts_of(section, PROCESS_DEFAULTS), vms_max=section.vms_max or None),
        bandwidth=timetable(section.rate_limit_mib_s, section.bandwidth, zone),
        remotes={
            name: timetable(remote.rate_limit_mib_s, remote.bandwidth, zone)
            for name, remote in configuration.remotes.items()
        },
        links=links_of(configuration),
    )


def links_of(configuration: Configuration) -> Links:
    """The lines between sites, seen from this machine's own."""
    from xobackup.cli.engine_store import sites_of
    from xobackup.engine.limits.bandwidth import Timetable
    from xobackup.engine.limits.links import Link, Links

    def link(name: str, section: LinkSection) -> Link:
        windows = tuple(window.window() for window in section.bandwidth)
        zone = section.timezone or configuration.limits.timezone
        one, other = section.between
        return Link(
            name=name,
            between=(one, other),
            bandwidth=Timetable(rate_bytes_s=section.rate_bytes_s, windows=windows, zone=zone),
            transfers_max=section.transfers_max or None,
        )

    return Links(
        here=configuration.engine.site or "",
        sites=sites_of(configuration),
        links=tuple(link(name, section) for name, section in configuration.links.items()),
    )


def counts_of(section: CountsSection, defaults: Limits | None = None) -> Limits:
    """What the section says, else ``defaults``; 0 is no limit."""
    from dataclasses import replace

    from xobackup.engine.limits.settings import NO_LIMITS

    said = {name: value or None for name in COUNTS if (value := getattr(section, name)) is not None}
    return replace(defaults or NO_LIMITS, deletion_pause_s=section.deletion_pause_s, **said)


def timetable(rate_mib_s: float | None, windows: Iterable[WindowSection], zone: str) -> Timetable:
    """A rate, and other rates at some times."""
    from xobackup.engine.limits.bandwidth import Timetable

    rate = rate_mib_s * MIB if rate_mib_s else None
    return Timetable(rate_bytes_s=rate, windows=tuple(window.window() for window in windows), zone=zone)


def floor_of(value: str | int) -> Floor:
    """What must stay free."""
    from xobackup.config.limits import parse_floor
    from xobackup.engine.space.judge import Floor

    share, size_bytes = parse_floor(value)
    return Floor(share=share, size_bytes=size_bytes)
