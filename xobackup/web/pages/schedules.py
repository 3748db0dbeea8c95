"""Schedules: the week ahead, and what one may do with them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from xobackup.web.access import Role
from xobackup.web.app import may_change, must
from xobackup.web.house import Refused
from xobackup.web.pages.rendering import house_of, render

router = APIRouter()


@router.get("/schedules", response_class=HTMLResponse)
def schedules(request: Request) -> Response:
    """When what runs, and the next week."""
    must(request, Role.VIEWER)
    house = house_of(request)
    days: dict[str, list[Any]] = {}
    for start in house.calendar(7):
        days.setdefault(f"{start.at:%A, %Y-%m-%d}", []).append(start)
    return render(request, "schedules.html", schedules=house.schedules(), days=days)


@router.post("/schedules/{name}/{deed}")
def change(
    request: Request,
    name: str,
    deed: str,
    csrf: Annotated[str, Form(max_length=200)] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Run, cancel, pause or resume a schedule."""
    if deed not in ("run", "cancel", "pause", "resume"):
        raise Refused(404, f"a schedule has no {deed!r}")
    who = may_change(request, Role.OPERATOR, csrf, deed, name)
    house = house_of(request)
    if deed == "run":
        house.run_now(name)
    elif deed == "pause":
        house.pause(name, reason or f"by {who.name}")
    elif deed == "resume":
        house.resume(name)
    elif not house.cancel(name, f"cancelled by {who.name}"):
        raise Refused(409, f"schedule {name!r} neither runs nor waits")
    return RedirectResponse("/schedules", status_code=303)
