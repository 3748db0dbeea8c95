"""The first page: where one stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from xobackup.history.standing import Standing, State
from xobackup.web import charts, shown
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.pages.rendering import DAY_S, house_of, render, working

router = APIRouter()
VMS_PER_PAGE = 100
DAYS_SHOWN = 30


@router.get("/", response_class=HTMLResponse)
def overview(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    state: Annotated[str, Query(max_length=50)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Where one stands, first line first."""
    must(request, Role.VIEWER)
    house = house_of(request)
    found = house.overview()
    chosen = [one for one in found.vms if _fits(one, q, state)] if q or state else found.vms
    first = (page - 1) * VMS_PER_PAGE
    since = _day_of(house.now_s()) - (DAYS_SHOWN - 1) * DAY_S
    days = house.days(since, since + DAYS_SHOWN * DAY_S)
    following = {job: one for one in reversed(house.schedules()) if one.next_at for job in one.jobs}
    return render(
        request,
        "overview.html",
        found=found,
        counts={**dict.fromkeys(State, 0), **Counter(one.state for one in found.vms)},
        vms=chosen[first : first + VMS_PER_PAGE],
        total=len(chosen),
        first=first,
        q=q,
        state=state,
        page=page,
        pages=-(-len(chosen) // VMS_PER_PAGE),
        query=urlencode({"q": q, "state": state}),
        problems=house.problems(),
        live=house.live(),
        working=working(house),
        following=following,
        outcomes=Markup(_outcomes_by_day(days, since)),  # noqa: S704 - made by charts, which escape
        traffic=Markup(_traffic_by_day(days, since)),  # noqa: S704
    )


def _fits(one: Standing, q: str, state: str) -> bool:
    text = q.strip().lower()
    return (not state or one.state == state) and (
        not text or any(text in part.lower() for part in (one.name, one.uuid, one.job, one.pool))
    )


def _day_of(at: float) -> int:
    return int(at // DAY_S) * DAY_S


def _outcomes_by_day(days: Sequence[Mapping[str, Any]], since: int) -> str:
    by_day = {row["day"]: row for row in days}
    marks = []
    for day in range(since, since + DAYS_SHOWN * DAY_S, DAY_S):
        row = by_day.get(day, {"ok": 0, "failed": 0, "interrupted": 0})
        bad = row["failed"] + row["interrupted"]
        told = f"{_date(day)}: {row['ok']} good, {bad} failed"
        marks.append(charts.Mark(label=_date(day)[5:], parts=(("good", row["ok"]), ("bad", bad)), told=told))
    return charts.bars("Backups of VMs per day", marks, shown=lambda value: f"{value:.0f}", empty="no run in 30 days")


def _traffic_by_day(days: Sequence[Mapping[str, Any]], since: int) -> str:
    by_day = {row["day"]: row for row in days}
    marks = []
    for day in range(since, since + DAYS_SHOWN * DAY_S, DAY_S):
        row = by_day.get(day, {"read_bytes": 0, "merged_bytes": 0})
        told = (
            f"{_date(day)}: {shown.size(row['read_bytes'])} read, {shown.size(row['merged_bytes'])} moved by merges"
        )
        marks.append(charts.Mark(label=_date(day)[5:], parts=(("plain", row["read_bytes"]),), told=told))
    return charts.bars("Read from pools per day", marks, shown=shown.size, empty="nothing was read in 30 days")


def _date(day: float) -> str:
    return f"{datetime.fromtimestamp(day, tz=UTC):%Y-%m-%d}"
