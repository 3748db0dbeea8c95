"""What every answer of the API has in common: problems, bounds, who may."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from xobackup.web.access import Role
from xobackup.web.app import may_change, must
from xobackup.web.house import House

PROBLEM = {"content": {"application/problem+json": {"schema": {"type": "object"}}}}
_MEANINGS = {
    400: "Not understood", 401: "No login", 403: "Not allowed", 404: "Not there", 409: "Not now", 413: "Too large",
    421: "Not our name", 422: "Not understood", 429: "Too many tries", 503: "Not available",
}  # fmt: skip
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"description": text, **PROBLEM} for code, text in _MEANINGS.items()
}


def _viewer(request: Request) -> None:
    must(request, Role.VIEWER)


LOOKING = [Depends(_viewer)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Before = Annotated[float | None, Query(description="Only what began before this Unix time, to page on.")]
Name = Annotated[str, Path(min_length=1, max_length=200)]


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


def change(request: Request, role: Role, deed: str, about: str) -> str:
    """Whoever asks, if they may; written down. Returns their name."""
    who = may_change(request, role, request.headers.get("x-csrf-token", ""), deed, about)
    return who.name
