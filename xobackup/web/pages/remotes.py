"""Remotes: how full they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from xobackup.history import ask
from xobackup.web import charts, shown
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.pages.rendering import DAY_S, door_of, house_of, render

router = APIRouter()


@router.get("/remotes", response_class=HTMLResponse)
def remotes(request: Request) -> Response:
    """How full the remotes are, and how fast they fill."""
    must(request, Role.VIEWER)
    house = house_of(request)
    since = house.now_s() - 90 * DAY_S
    views = []
    for one in house.remotes():
        samples = ask.samples(house.store(), one.name, since=since)
        views.append((one, Markup(_gauge(one)), Markup(_growth(request, one, samples))))  # noqa: S704
    return render(request, "remotes.html", remotes=views)


def _gauge(one: Any) -> str:
    if one.total_bytes and one.free_bytes is not None:
        told = f"{shown.size(one.free_bytes)} of {shown.size(one.total_bytes)} free"
        return charts.gauge(one.name, 1 - one.free_bytes / one.total_bytes, told)
    return ""


def _growth(request: Request, one: Any, samples: Sequence[Mapping[str, Any]]) -> str:
    zone = door_of(request).settings.zone
    known = [row for row in samples if row["used_bytes"] is not None]
    step = max(1, len(known) // 90)
    points = [
        (
            row["at"],
            float(row["used_bytes"]),
            f"{shown.moment(row['at'], zone)}: {shown.size(row['used_bytes'])} used",
        )
        for row in known[::step]
    ]
    return charts.line("Used", points, shown=shown.size, limit=one.total_bytes)
