"""What went wrong, and who did what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from xobackup.history import ask
from xobackup.notify.oddities import grouped, named
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.pages.rendering import DAY_S, door_of, house_of, render

router = APIRouter()
ODD_MAX = 200


@router.get("/problems", response_class=HTMLResponse)
def problems(request: Request, days: Annotated[float, Query(gt=0, le=3660)] = 7) -> Response:
    """What went wrong lately, and what to do."""
    must(request, Role.VIEWER)
    house = house_of(request)
    rows = ask.problems(house.store(), since=house.now_s() - days * DAY_S, limit=300)
    odd = grouped(house.oddities())[:ODD_MAX]
    return render(
        request,
        "problems.html",
        rows=_grouped(rows),
        days=days,
        service=house.problems(),
        unusual=[(one, named(names)) for one, names in odd],
    )


@router.get("/audit", response_class=HTMLResponse)
def audit(request: Request) -> Response:
    """Who did what."""
    must(request, Role.ADMIN)
    return render(request, "audit.html", deeds=door_of(request).audit.newest())


def _grouped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same trouble of the same VM once, with how often; the newest first."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["job"], row["uuid"], row["remote"], row["level"], row["text"])
        if key in found:
            found[key]["times"] += 1
        else:
            found[key] = {**row, "times": 1}
    return list(found.values())
