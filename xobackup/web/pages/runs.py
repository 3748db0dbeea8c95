"""Runs, and one of them in depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from xobackup.history import ask
from xobackup.web import charts, shown
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.house import Refused
from xobackup.web.pages.rendering import house_of, render, working

router = APIRouter()
RUNS_PER_PAGE = 50


@router.get("/runs", response_class=HTMLResponse)
def runs(
    request: Request,
    job: Annotated[str, Query(max_length=200)] = "",
    outcome: Annotated[str, Query(max_length=50)] = "",
    before: float | None = None,
) -> Response:
    """Runs of the past, and those that go on."""
    must(request, Role.VIEWER)
    house = house_of(request)
    rows = ask.runs(house.store(), limit=RUNS_PER_PAGE, before=before, job=job or None, outcome=outcome or None)
    older = rows[-1]["began_at"] if len(rows) == RUNS_PER_PAGE else None
    return render(
        request,
        "runs.html",
        rows=rows,
        job=job,
        outcome=outcome,
        jobs=[one.name for one in house.jobs()],
        older=urlencode({"job": job, "outcome": outcome, "before": older}) if older else "",
        live=house.live(),
        working=working(house),
    )


_RANKS = {"failed": 0, "interrupted": 0, "ok": 2, "skipped": 3}
"""Who needs somebody comes first."""


@router.get("/runs/{run_id}", response_class=HTMLResponse)
def run(request: Request, run_id: str) -> Response:
    """One run in depth."""
    must(request, Role.VIEWER)
    found = ask.run(house_of(request).store(), run_id)
    if found is None:
        raise Refused(404, "no run has this id")
    for one in found["subjects"]:
        one["outcome_rank"] = _RANKS.get(one["outcome"], 1)
    timeline = charts.timeline("What happened when", _phase_rows(found), shown=shown.length)
    can_retry = sum(1 for one in found["subjects"] if one["kind"] == "vm" and _RANKS.get(one["outcome"], 1) == 0)
    return render(request, "run.html", run=found, can_retry=can_retry, timeline=Markup(timeline))  # noqa: S704


def _phase_rows(found: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, float, float, str]]]]:
    rows = []
    for one in found["subjects"]:
        spans = []
        for phase in one["phases"]:
            begin = phase["began_at"] - found["began_at"]
            took = phase["duration_s"] if phase["duration_s"] is not None else 0.0
            kind = "bad" if phase["ok"] is False else f"phase-{phase['phase']}" if phase["ok"] else "warn"
            told = f"{phase['phase']}: {shown.length(took)}"
            told += f", {phase['error']}" if phase["error"] else ""
            spans.append((kind, max(0.0, begin), max(0.0, begin) + took, told))
        if spans:
            rows.append((shown.line(one["name"] or one["uuid"], 22), spans))
    return rows
