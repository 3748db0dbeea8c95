"""What the pages show."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from xobackup.history import ask
from xobackup.web.access import Role
from xobackup.web.api.answers import LOOKING, Before, Limit, Name, Offset, house_of
from xobackup.web.app import must
from xobackup.web.house import Refused

router = APIRouter()


@router.get("/status", dependencies=LOOKING)
def status(request: Request) -> dict[str, Any]:
    """Which VMs have a backup as young as it should be; what is wrong with the service itself."""
    house = house_of(request)
    found = house.overview()
    return {
        "headline": found.headline,
        "good": found.good,
        "vms": len(found.counted),
        "within": sum(1 for one in found.counted if one.within),
        "jobs_without_runs": list(found.silent_jobs),
        "problems": list(house.problems()),
        "version": house.version,
    }


@router.get("/vms", dependencies=LOOKING)
def vms(
    request: Request,
    job: Annotated[str | None, Query(max_length=200)] = None,
    state: Annotated[str | None, Query(max_length=50)] = None,
    limit: Limit = 1000,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Every VM of every job, those first that need somebody."""
    found = [
        one
        for one in house_of(request).overview().vms
        if (job is None or one.job == job) and (state is None or one.state == state)
    ]
    return {"total": len(found), "vms": [one.as_data() for one in found[offset : offset + limit]]}


@router.get("/vms/{uuid}/runs", dependencies=LOOKING)
def vm_runs(request: Request, uuid: Name, limit: Limit = 50, before: Before = None) -> dict[str, Any]:
    """What became of one VM or pool, the newest first."""
    rows = ask.subjects(house_of(request).store(), uuid, limit=limit, before=before)
    if not rows and before is None:
        raise Refused(404, "no run knows this uuid")
    return {"runs": [dict(row) for row in rows]}


@router.get("/runs", dependencies=LOOKING)
def runs(
    request: Request,
    job: Annotated[str | None, Query(max_length=200)] = None,
    outcome: Annotated[str | None, Query(max_length=50)] = None,
    limit: Limit = 50,
    before: Before = None,
) -> dict[str, Any]:
    """Runs, the newest first."""
    rows = ask.runs(house_of(request).store(), limit=limit, before=before, job=job, outcome=outcome)
    return {"runs": [dict(row) for row in rows]}


@router.get("/runs/{run_id}", dependencies=LOOKING)
def run(request: Request, run_id: Name) -> dict[str, Any]:
    """One run in depth."""
    found = ask.run(house_of(request).store(), run_id)
    if found is None:
        raise Refused(404, "no run has this id")
    return found


@router.get("/live", dependencies=LOOKING)
def live(request: Request) -> dict[str, Any]:
    """What goes on now in this service, with rates and what is slowest."""
    house = house_of(request)
    return {"headline": house.overview().headline, "runs": [one.as_data() for one in house.live()]}


@router.get("/jobs", dependencies=LOOKING)
def jobs(request: Request) -> dict[str, Any]:
    """The jobs of the configuration."""
    return {"jobs": [one.as_data() for one in house_of(request).jobs()]}


@router.get("/schedules", dependencies=LOOKING)
def schedules(request: Request) -> dict[str, Any]:
    """The schedules of the configuration, and what each does now."""
    return {"schedules": [one.as_data() for one in house_of(request).schedules()]}


@router.get("/calendar", dependencies=LOOKING)
def calendar(request: Request, days: Annotated[int, Query(ge=1, le=31)] = 7) -> dict[str, Any]:
    """Every start that lies ahead."""
    return {"starts": [one.as_data() for one in house_of(request).calendar(days)]}


@router.get("/remotes", dependencies=LOOKING)
def remotes(request: Request) -> dict[str, Any]:
    """The remotes of the configuration, as the service last saw them."""
    return {"remotes": [one.as_data() for one in house_of(request).remotes()]}


@router.get("/problems", dependencies=LOOKING)
def problems(
    request: Request, days: Annotated[float, Query(gt=0, le=3660)] = 7, limit: Limit = 100
) -> dict[str, Any]:
    """Warnings and errors of the last days, the newest first; and what is unusual now."""
    house = house_of(request)
    rows = ask.problems(house.store(), since=house.now_s() - days * 86_400, limit=limit)
    return {
        "service": list(house.problems()),
        "messages": [dict(row) for row in rows],
        "unusual": [one.as_data() for one in house.oddities()[:limit]],
    }


@router.get("/audit")
def audit(request: Request) -> dict[str, Any]:
    """Who did what, the newest first."""
    must(request, Role.ADMIN)
    return {"deeds": request.app.state.door.audit.newest()}
