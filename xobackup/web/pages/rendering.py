"""Templates, and what every page has in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from xobackup.engine.progress import Snapshot
from xobackup.service.operations import Operation
from xobackup.web import shown
from xobackup.web.access import Role
from xobackup.web.app import TITLES, Door, who_asks
from xobackup.web.house import House, Refused

DAY_S = 86_400
SHOWN = 50

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(
    size=shown.size,
    length=shown.length,
    exact=shown.exact,
    tone=shown.tone,
    line=shown.line,
    deed=shown.deed,
    record=shown.record,
    path=shown.path,
    length_of=len,
)


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


def door_of(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


def render(request: Request, template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A template with what every page needs."""
    zone = door_of(request).settings.zone
    try:
        who = who_asks(request)
    except Refused:
        who = None
    common = {
        "who": who,
        "may_run": who is not None and who.role >= Role.OPERATOR,
        "is_admin": who is not None and who.role >= Role.ADMIN,
        "csrf": who.csrf if who else "",
        "here": request.url.path,
        "version": house_of(request).version,
        "now_s": house_of(request).now_s(),
        "moment": lambda at: shown.moment(at, zone),
    }
    text = _templates.get_template(template).render(**{**common, **values})
    return HTMLResponse(text, status_code=status)


def error_page(request: Request, error: Refused) -> HTMLResponse:
    """An error for people."""
    return render(request, "error.html", status=error.status, title=TITLES.get(error.status, "Error"), error=error)


def working(house: House) -> list[tuple[Operation, Sequence[Snapshot]]]:
    """Operations that go on, with their meters; of those that only look nobody needs to know."""
    newest = house.desk.newest(SHOWN)
    return [(one, house.desk.meters(one.id)) for one in newest if one.state == "running" and one.lane == "work"]
