"""The limits of a job as sentences, and its limiter of bandwidth, which says when another rate comes into force."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from schedules.windows import span_text
from xobackup.engine import events
from xobackup.engine.limits.bandwidth import Limit, Timetable, limit_text, rate_text
from xobackup.engine.limits.links import place_text
from xobackup.engine.limits.settings import Limits
from xobackup.engine.throttle import Throttle

if TYPE_CHECKING:
    from xobackup.engine.job import Job
    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.engine.world import World


def timetable_of(job: Job) -> Timetable:
    """The job's bandwidth."""
    settings = job.settings
    return Timetable(rate_bytes_s=settings.rate_bytes_s, windows=settings.bandwidth, zone=settings.timezone)


def job_throttle(job: Job, world: World) -> Throttle:
    """All transfers of the job, within those of the process. A change is journalled; the first is no change."""
    first = True

    def tell(limits: tuple[Limit, ...]) -> None:
        nonlocal first
        if first:
            first = False
            return
        told = [f"{scope}: {limit_text(limit)}" for scope, limit in zip(scopes, limits, strict=True)]
        world.journal.write(events.BandwidthChanged(limits=told))

    table, above = timetable_of(job), world.limits.total(world.clock)
    scopes = [*([f"job {job.name}"] if table.limited else []), *(["all jobs"] if above is not None else [])]
    share = world.limits.share(f"job {job.id}") if table.limited else None
    return Throttle(table, world.clock, above=above, share=share, tell=tell if scopes else None)


def limits_told(job: Job, world: World) -> tuple[str, ...]:
    """What is in force for a run that begins now."""
    now_s, process = world.clock.now_s(), world.limits
    told = [
        _bandwidth(f"bandwidth of job {job.name}", timetable_of(job), now_s),
        _bandwidth("bandwidth of all jobs", process.bandwidth, now_s),
    ]
    told += [
        _bandwidth(f"bandwidth to remote {remote.name}", process.remotes.get(remote.name, Timetable()), now_s)
        for remote in job.remotes
    ]
    if world.hand_out is None:  # what is not reached from here is left to workers that are near
        pools, targets = [f"pool:{pool.name}" for pool in job.pools], [target.name for target in job.targets]
        told += links_told(process, [*pools, *(remote.name for remote in job.remotes), *targets], now_s)
    settings = job.settings
    if job.selects_vms:
        own = [
            _count(settings.vms_max, "VM"),
            f"{_count(settings.disks_max, 'disk')} of a VM",
            *_numbers(settings.limits),
        ]
        told.append(f"at a time, job {job.name}: {', '.join(own)}")
        if shared := _numbers(process.limits):
            told.append(f"at a time, all jobs: {', '.join(shared)}")
    return tuple(line for line in told if line)


def links_told(process: ProcessLimits, places: Iterable[str], now_s: float) -> list[str]:
    """The links that lead from here to these places, and what may cross them."""
    told = []
    for name, beyond in process.links.crossed(places).items():
        link = process.links.named(name)
        where = ", ".join(place_text(place) for place in beyond)
        line = _bandwidth(f"through link {name} to {where}", link.bandwidth, now_s)
        parts = [f"{line} shared"] if line else [f"through link {name} to {where}"]
        if link.transfers_max is not None:
            parts.append(f"{_count(link.transfers_max, 'transfer')} at a time")
        told.append(", ".join(parts))
    return told


def _bandwidth(what: str, table: Timetable, now_s: float) -> str:
    if not table.limited:
        return ""
    if not table.windows:
        return f"{what}: {rate_text(table.rate_bytes_s)}"
    windows = [f"{rate_text(window.rate_bytes_s)} {span_text(window)}" for window in table.windows]
    zone = f" ({table.zone})" if table.zone else ""
    other = f"otherwise {rate_text(table.rate_bytes_s)}"
    return f"{what}: {', '.join(windows)}{zone}, {other}; now {limit_text(table.at(now_s))}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _numbers(limits: Limits) -> list[str]:
    named = {
        ("VM", ""): limits.vms_max,
        ("transfer", " of a pool"): limits.transfers_per_pool,
        ("transfer", " of a host"): limits.transfers_per_host,
        ("transfer", " of an SR"): limits.transfers_per_sr,
        ("snapshot", " of a pool"): limits.snapshots_per_pool,
        ("snapshot", " of an SR"): limits.snapshots_per_sr,
        ("deletion", " of snapshots of an SR"): limits.deletions_per_sr,
    }
    told = [f"{_count(count, what)}{where}" for (what, where), count in named.items() if count is not None]
    if limits.deletion_pause_s:
        told.append(f"{limits.deletion_pause_s:g} s between deletions of snapshots of an SR")
    return told
