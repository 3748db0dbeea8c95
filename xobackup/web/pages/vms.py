"""One VM: its runs, its restore points, how to get it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from xobackup.history import ask
from xobackup.history.standing import Standing
from xobackup.web import charts, shown
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.house import Refused
from xobackup.web.pages.backups import UUID
from xobackup.web.pages.rendering import door_of, house_of, render

router = APIRouter()
RUNS_PER_PAGE = 50
BLOCK_BYTES = 2 << 20


@router.get("/vms/{uuid}", response_class=HTMLResponse)
def vm(request: Request, uuid: str, before: float | None = None) -> Response:
    """One VM."""
    must(request, Role.VIEWER)
    house = house_of(request)
    rows = ask.subjects(house.store(), uuid, limit=RUNS_PER_PAGE, before=before)
    if not rows and before is None:
        if UUID.fullmatch(uuid):  # of another installation, or Xen Orchestra's: there may be restore points of it
            return RedirectResponse(f"/vms/{uuid}/points", status_code=303)
        raise Refused(404, "no run knows this VM")
    standings = house.standings(uuid)
    good = [row for row in reversed(rows) if row["outcome"] == "ok"]
    return render(
        request,
        "vm.html",
        name=rows[0]["name"] if rows else uuid,
        uuid=uuid,
        rows=rows,
        standings=standings,
        checks=ask.checks(house.store(), uuid, limit=1),
        older=rows[-1]["began_at"] if len(rows) == RUNS_PER_PAGE else None,
        sizes=Markup(_runs_chart(request, "Read from the pool", good, "read_bytes", shown.size)),  # noqa: S704
        lags=Markup(_lag_chart(request, rows, standings)),  # noqa: S704
        merges=Markup(_merge_chart(request, good)),  # noqa: S704
        durations=Markup(_runs_chart(request, "Time taken", good, "duration_s", shown.length)),  # noqa: S704
    )


def _runs_chart(request: Request, title: str, rows: Sequence[Mapping[str, Any]], key: str, form: Any) -> str:
    zone = door_of(request).settings.zone
    marks = [
        charts.Mark(
            label=shown.moment(row["began_at"], zone)[5:10],
            parts=(("warn" if row["fulls"] else "plain", float(row[key])),),
            told=f"{shown.moment(row['began_at'], zone)}: {form(row[key])}, {row['mode'] or 'nothing read'}",
        )
        for row in rows
    ]
    return charts.bars(title, marks, shown=form, empty="no good run yet")


def _lag_chart(request: Request, rows: Sequence[Mapping[str, Any]], standings: Sequence[Standing]) -> str:
    """How old the newest good backup was when the next one began; the last point is now."""
    zone = door_of(request).settings.zone
    good = sorted(row["began_at"] for row in rows if row["outcome"] == "ok")
    if good:
        good.append(max(house_of(request).now_s(), good[-1]))
    points = [
        (at, at - before, f"{shown.moment(at, zone)}: {shown.length(at - before)} old")
        for before, at in pairwise(good)
    ]
    allowed = [one.rpo_s for one in standings if one.rpo_s is not None]
    return charts.line("Age of the newest good backup", points, shown=shown.length, limit=min(allowed, default=None))


def _merge_chart(request: Request, rows: Sequence[Mapping[str, Any]]) -> str:
    """What merges put together, and how much of it they did not have to move."""
    zone = door_of(request).settings.zone
    marks = []
    for row in rows:
        merged, moved = row["merged_blocks"] * BLOCK_BYTES, row["merged_bytes"]
        told = f"{shown.moment(row['began_at'], zone)}: {shown.size(merged)} merged, {shown.size(moved)} of it moved"
        parts = (("plain", float(moved)), ("good", float(max(0, merged - moved))))
        marks.append(charts.Mark(label=shown.moment(row["began_at"], zone)[5:10], parts=parts, told=told))
    return charts.bars("Merged per run", marks, shown=shown.size, empty="nothing was merged yet")
