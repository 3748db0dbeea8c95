"""For whatever watches the service: health, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from xobackup.web.api.answers import LOOKING, RESPONSES, house_of
from xobackup.web.metrics import CONTENT_TYPE, exposition

router = APIRouter()


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """The service answers."""
    return "ok\n"


@router.get("/readyz", responses={503: {"description": "Something it needs is missing"}})
def readyz(request: Request) -> Response:
    """Everything it needs is there: the history, the state directory, the loop."""
    parts = house_of(request).healthy()
    good = not any(parts.values())
    return JSONResponse({"ready": good, "parts": dict(parts)}, status_code=200 if good else 503)


@router.get("/metrics", dependencies=LOOKING, responses=RESPONSES, response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """For Prometheus."""
    return PlainTextResponse(exposition(house_of(request)), media_type=CONTENT_TYPE)
