"""``/api/v1``: what the pages show and do, for programs; and what watches the service: health, readiness, metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field

from xobackup.history import ask
from xobackup.web.access import Role
from xobackup.web.app import may_change, must
from xobackup.web.house import House, Refused
from xobackup.web.metrics import CONTENT_TYPE, exposition

PROBLEM = {"content": {"application/problem+json": {"schema": {"type": "object"}}}}
_MEANINGS = {
    400: "Not understood", 401: "No login", 403: "Not allowed", 404: "Not there", 409: "Not now", 413: "Too large",
    421: "Not our name", 422: "Not understood", 429: "Too many tries", 503: "Not available",
}  # fmt: skip
_RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"description": text, **PROBLEM} for code, text in _MEANINGS.items()
}


def _viewer(request: Request) -> None:
    must(request, Role.VIEWER)


router = APIRouter(prefix="/api/v1", responses=_RESPONSES)
looking = [Depends(_viewer)]
health = APIRouter()

Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
Before = Annotated[float | None, Query(description="Only what began before this Unix time, to page on.")]
Name = Annotated[str, Path(min_length=1, max_length=200)]


class Reason(BaseModel):
    """Why."""

    reason: str = Field(default="by the API", max_length=500)


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


@router.get("/status", dependencies=looking)
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


@router.get("/vms", dependencies=looking)
def vms(
    request: Request,
    job: Annotated[str | None, Query(max_length=200)] = None,
    state: Annotated[str | None, Query(max_length=50)] = None,
    limit: Limit = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> dict[str, Any]:
    """Every VM of every job, those first that need somebody."""
    found = [
        one
        for one in house_of(request).overview().vms
        if (job is None or one.job == job) and (state is None or one.state == state)
    ]
    return {"total": len(found), "vms": [one.as_data() for one in found[offset : offset + limit]]}


@router.get("/vms/{uuid}/runs", dependencies=looking)
def vm_runs(request: Request, uuid: Name, limit: Limit = 50, before: Before = None) -> dict[str, Any]:
    """What became of one VM or pool, the newest first."""
    rows = ask.subjects(house_of(request).store(), uuid, limit=limit, before=before)
    if not rows and before is None:
        raise Refused(404, "no run knows this uuid")
    return {"runs": [dict(row) for row in rows]}


@router.get("/runs", dependencies=looking)
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


@router.get("/runs/{run_id}", dependencies=looking)
def run(request: Request, run_id: Name) -> dict[str, Any]:
    """One run in depth."""
    found = ask.run(house_of(request).store(), run_id)
    if found is None:
        raise Refused(404, "no run has this id")
    return found


@router.get("/live", dependencies=looking)
def live(request: Request) -> dict[str, Any]:
    """What goes on now in this service, with rates and what is slowest."""
    house = house_of(request)
    return {"headline": house.overview().headline, "runs": [one.as_data() for one in house.live()]}


@router.get("/jobs", dependencies=looking)
def jobs(request: Request) -> dict[str, Any]:
    """The jobs of the configuration."""
    return {"jobs": [one.as_data() for one in house_of(request).jobs()]}


@router.get("/schedules", dependencies=looking)
def schedules(request: Request) -> dict[str, Any]:
    """The schedules of the configuration, and what each does now."""
    return {"schedules": [one.as_data() for one in house_of(request).schedules()]}


@router.get("/calendar", dependencies=looking)
def calendar(request: Request, days: Annotated[int, Query(ge=1, le=31)] = 7) -> dict[str, Any]:
    """Every start that lies ahead."""
    return {"starts": [one.as_data() for one in house_of(request).calendar(days)]}


@router.get("/remotes", dependencies=looking)
def remotes(request: Request) -> dict[str, Any]:
    """The remotes of the configuration, as the service last saw them."""
    return {"remotes": [one.as_data() for one in house_of(request).remotes()]}


@router.get("/problems", dependencies=looking)
def problems(
    request: Request, days: Annotated[float, Query(gt=0, le=3660)] = 7, limit: Limit = 100
) -> dict[str, Any]:
    """Warnings and errors of the last days, the newest first."""
    house = house_of(request)
    rows = ask.problems(house.store(), since=house.now_s() - days * 86_400, limit=limit)
    return {"service": list(house.problems()), "messages": [dict(row) for row in rows]}


@router.post("/schedules/{name}/run", status_code=202)
def run_now(request: Request, name: Name) -> dict[str, str]:
    """Order a run besides the calendar."""
    _change(request, Role.OPERATOR, "run", name)
    return {"schedule": name, "order": house_of(request).run_now(name)}


@router.post("/schedules/{name}/cancel", status_code=202)
def cancel(request: Request, name: Name, body: Reason | None = None) -> dict[str, str]:
    """Stop its run; what was published is kept."""
    who = _change(request, Role.OPERATOR, "cancel", name)
    reason = body.reason if body else "by the API"
    if not house_of(request).cancel(name, f"cancelled by {who}: {reason}"):
        raise Refused(409, f"schedule {name!r} neither runs nor waits")
    return {"schedule": name, "order": "stopping"}


@router.post("/schedules/{name}/pause")
def pause(request: Request, name: Name, body: Reason | None = None) -> dict[str, str]:
    """Start nothing of it until it is resumed."""
    _change(request, Role.OPERATOR, "pause", name)
    reason = body.reason if body else "by the API"
    house_of(request).pause(name, reason)
    return {"schedule": name, "paused": reason}


@router.post("/schedules/{name}/resume")
def resume(request: Request, name: Name) -> dict[str, str]:
    """Follow it again."""
    _change(request, Role.OPERATOR, "resume", name)
    house_of(request).resume(name)
    return {"schedule": name, "paused": ""}


@router.get("/audit")
def audit(request: Request) -> dict[str, Any]:
    """Who did what, the newest first."""
    must(request, Role.ADMIN)
    return {"deeds": request.app.state.door.audit.newest()}


def _change(request: Request, role: Role, deed: str, about: str) -> str:
    who = may_change(request, role, request.headers.get("x-csrf-token", ""), deed, about)
    return who.name


@health.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """The service answers."""
    return "ok\n"


@health.get("/readyz", responses={503: {"description": "Something it needs is missing"}})
def readyz(request: Request) -> Response:
    """Everything it needs is there: the history, the state directory, the loop."""
    parts = house_of(request).healthy()
    good = not any(parts.values())
    return JSONResponse({"ready": good, "parts": dict(parts)}, status_code=200 if good else 503)


@health.get("/metrics", dependencies=looking, responses=_RESPONSES)
def metrics(request: Request) -> Response:
    """For Prometheus."""
    return PlainTextResponse(exposition(house_of(request)), media_type=CONTENT_TYPE)
