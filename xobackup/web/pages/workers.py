"""Workers: who lives, what each does, what waits for them, which limits all of them share."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.pages.rendering import house_of, render

router = APIRouter()
ROWS_MAX = 500
SKEW_S = 5.0
"""A clock that is off by more is told."""


@router.get("/workers", response_class=HTMLResponse)
def workers(request: Request) -> Response:
    """As they were at the last look; the database is not asked now."""
    must(request, Role.VIEWER)
    seen = house_of(request).workers()
    return render(request, "workers.html", seen=seen, rows=seen.workers[:ROWS_MAX], skew_s=SKEW_S)
