"""Workers, for programs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from xobackup.web.api.answers import LOOKING, house_of

router = APIRouter()


@router.get("/workers", dependencies=LOOKING)
def workers(request: Request) -> dict[str, Any]:
    """Who lives, what each does, what waits and why, shared limits; as of the last look, some seconds ago."""
    return house_of(request).workers().as_data()
