"""The other site: replicas, and plans for the day when they are needed."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from xobackup.web import charts, requests, shown
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.house import Refused
from xobackup.web.pages.operations import Csrf, order
from xobackup.web.pages.rendering import house_of, render
from xobackup.web.views import ReplicaView

router = APIRouter()
REPLICAS_SHOWN = 1000
DRAWN = 60


@router.get("/replicas", response_class=HTMLResponse)
def replicas(request: Request) -> Response:
    """Target by target; those that lag most first."""
    must(request, Role.VIEWER)
    house = house_of(request)
    now_s = house.now_s()
    targets = []
    for one in house.replicas():
        rows = sorted(one.replicas, key=lambda replica: replica.newest_at)
        targets.append((one, rows[:REPLICAS_SHOWN], Markup(_lags(rows, now_s))))  # noqa: S704 - charts escape
    return render(request, "replicas.html", targets=targets)


@router.get("/dr", response_class=HTMLResponse)
def plans(request: Request) -> Response:
    """Plans, and what their tests found."""
    must(request, Role.VIEWER)
    return render(request, "dr.html", plans=house_of(request).dr_plans())


@router.post("/dr/{plan}/{deed}")
def try_plan(request: Request, plan: str, deed: str, csrf: Csrf = "") -> Response:
    """Look at it, or test it. A failover is a matter of the command line."""
    if deed == "plan":
        return order(request, requests.DrPlan(plan=plan), csrf)
    if deed == "test":
        return order(request, requests.DrTest(plan=plan), csrf)
    raise Refused(404, f"the page does no {shown.line(deed, 40)!r} of a plan", hint="xobackup dr --help")


def _lags(rows: list[ReplicaView], now_s: float) -> str:
    marks = [
        charts.Mark(
            label=shown.line(one.name, 10),
            parts=(("plain" if one.usable else "bad", max(0.0, now_s - one.newest_at)),),
            told=f"{shown.line(one.name, 80)}: {shown.length(max(0.0, now_s - one.newest_at))}",
        )
        for one in rows[:DRAWN]
    ]
    return charts.bars("Lag of replicas", marks, shown=shown.length, empty="no replica")
