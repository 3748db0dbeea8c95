"""What one may do with schedules."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from xobackup.web.access import Role
from xobackup.web.api.answers import Name, change, house_of
from xobackup.web.house import Refused

router = APIRouter()


class Reason(BaseModel):
    """Why."""

    reason: str = Field(default="by the API", max_length=500)


@router.post("/schedules/{name}/run", status_code=202)
def run_now(request: Request, name: Name) -> dict[str, str]:
    """Order a run besides the calendar."""
    change(request, Role.OPERATOR, "run", name)
    return {"schedule": name, "order": house_of(request).run_now(name)}


@router.post("/schedules/{name}/cancel", status_code=202)
def cancel(request: Request, name: Name, body: Reason | None = None) -> dict[str, str]:
    """Stop its run; what was published is kept."""
    who = change(request, Role.OPERATOR, "cancel", name)
    reason = body.reason if body else "by the API"
    if not house_of(request).cancel(name, f"cancelled by {who}: {reason}"):
        raise Refused(409, f"schedule {name!r} neither runs nor waits")
    return {"schedule": name, "order": "stopping"}


@router.post("/schedules/{name}/pause")
def pause(request: Request, name: Name, body: Reason | None = None) -> dict[str, str]:
    """Start nothing of it until it is resumed."""
    change(request, Role.OPERATOR, "pause", name)
    reason = body.reason if body else "by the API"
    house_of(request).pause(name, reason)
    return {"schedule": name, "paused": reason}


@router.post("/schedules/{name}/resume")
def resume(request: Request, name: Name) -> dict[str, str]:
    """Follow it again."""
    change(request, Role.OPERATOR, "resume", name)
    house_of(request).resume(name)
    return {"schedule": name, "paused": ""}
