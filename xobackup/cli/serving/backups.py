"""What is on remotes and pools, for the page."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from xobackup.cli.serving.looks import Looks
from xobackup.web.views import Offers, PointDisk, PointNic, PointsView, PointView, RemoteVms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xobackup.cli.serving.survey import Surveyor
    from xobackup.cli.serving.works import Works
    from xobackup.config.model import Configuration
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.pins import Pin
    from xobackup.repository.protection import Held

PROBLEMS_MAX = 20
FAR_S = 32_503_680_000.0
"""The year 3000."""


class ServiceBackups:
    """A :class:`xobackup.web.house.Backups`."""

    def __init__(self, works: Works, surveyor: Surveyor, looks: Looks) -> None:
        self._works, self._surveyor, self._looks = works, surveyor, looks

    def listed(self) -> Sequence[RemoteVms]:
        return [
            self._surveyor.lists.get(name) or RemoteVms(remote=name, looked=self._surveyor.looked(name))
            for name in self._works.configuration.remotes
        ]

    def points(self, vm: str, *, again: bool = False) -> Sequence[PointsView]:
        configuration = self._works.configuration
        names = list(configuration.remotes)
        asked = [(f"remote {name}", vm, partial(look_at_points, configuration, name, vm)) for name in names]
        return [
            replace(kept.value or PointsView(remote=name, looked=kept.looked), looked=kept.looked)
            for name, kept in zip(names, self._looks.ask_all(asked, again=again), strict=True)
        ]

    def changed(self, remote: str, vm: str) -> None:
        """Something of it was changed: what is kept is old. ``vm``: ``""`` when nobody knows of which."""
        self._looks.forget(f"remote {remote}", vm)

    def offers(self, pool: str) -> Offers:
        configuration = self._works.configuration
        kept = self._looks.ask(f"pool {pool}", "offers", lambda: look_at_offers(configuration, pool))
        return replace(kept.value or Offers(pool=pool, looked=kept.looked), looked=kept.looked)

    def pools(self) -> Sequence[str]:
        return list(self._works.configuration.pools)


def look_at_points(configuration: Configuration, remote: str, vm: str) -> PointsView:
    """As ``backups show`` does. ``looked`` is the caller's."""
    from xobackup.cli.jobs import remote_target
    from xobackup.cli.repositories import opened
    from xobackup.cli.restore_tests import tests
    from xobackup.web.views import Looked

    with opened(remote_target(configuration, remote)) as repository:
        listing = repository.points(vm)
        pins, held = repository.pins(vm), repository.held_points(listing.points)
    jobs = _job_names(configuration)
    known = tests(configuration.state_directory, vm, remote)
    return PointsView(
        remote=remote,
        looked=Looked(),
        name=listing.points[-1].vm_name if listing.points else "",
        points=tuple(
            _point(one, jobs, pins.get(one.id), held.get(one.id), known.get(one.id))
            for one in reversed(listing.points)
        ),
        problems=tuple(str(one) for one in listing.problems[:PROBLEMS_MAX]),
    )


def _point(
    point: RestorePoint,
    jobs: Mapping[str, str],
    pin: Pin | None,
    held: Held | None,
    test: Mapping[str, Any] | None,
) -> PointView:
    from xobackup.cli.backups import by_device

    vifs = point.metadata.get("vifs")
    return PointView(
        id=point.id,
        taken_at=point.timestamp_ms / 1000,
        mode=point.mode,
        job=jobs.get(point.job_id, ""),
        size_bytes=point.size,
        disks=tuple(
            PointDisk(
                device=disk.userdevice or "",
                name=disk.name_label,
                virtual_size_bytes=disk.virtual_size,
                delta=disk.differencing,
            )
            for disk in sorted(point.disks, key=by_device)
            if not disk.memory
        ),
        nics=tuple(
            PointNic(
                device=str(vif.get("device", "")),
                mac=str(vif.get("MAC", "")),
                network=str(vif.get("$network$name_label", "")),
            )
            for vif in (vifs.values() if isinstance(vifs, dict) else ())
            if isinstance(vif, dict)
        ),
        with_memory=point.memory is not None,
        pinned=pin is not None,
        pin_note=pin.note if pin else "",
        held=held.how if held else "",
        held_until=end_of(held),
        tested="" if test is None else "ok" if test["ok"] else "failed",
    )


def _job_names(configuration: Configuration) -> dict[str, str]:
    from xobackup.engine.job import job_id_of

    found: dict[str, str] = {}
    for jobs in (configuration.jobs, configuration.mirror_jobs):
        found |= {str(job.id or job_id_of(name)): name for name, job in jobs.items()}
    return found


def end_of(held: Held | None) -> float | None:
    """When a lock ends, if it is told; what lies in the far future is no date."""
    return None if held is None or held.until_s is None or held.until_s > FAR_S else held.until_s


def look_at_offers(configuration: Configuration, pool: str) -> Offers:
    """SRs that take disks, and networks."""
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.verbs.restoring import free_bytes
    from xobackup.clock import SystemClock
    from xobackup.web.views import Looked
    from xobackup.xapi.session import Session

    with Session.connect(pool_address(configuration, pool), clock=SystemClock()) as session:
        srs, networks = session.records("SR").values(), session.records("network").values()
    return Offers(
        pool=pool,
        looked=Looked(),
        srs=tuple(
            sorted(
                (
                    (str(sr["uuid"]), str(sr.get("name_label", "")), free_bytes(sr))
                    for sr in srs
                    if sr.get("content_type") not in ("iso", "tools") and sr.get("PBDs")
                ),
                key=lambda one: one[1],
            )
        ),
        networks=tuple(
            sorted(((str(one["uuid"]), str(one.get("name_label", ""))) for one in networks), key=lambda one: one[1])
        ),
    )
