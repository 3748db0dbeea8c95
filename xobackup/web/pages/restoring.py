"""The restore wizard: a restore point, a pool, what goes where; a plan; and only when that is agreed to, deeds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData

from xobackup.web import requests, shown
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.house import House, Refused
from xobackup.web.pages.operations import order
from xobackup.web.pages.rendering import house_of, render
from xobackup.web.views import PointView

router = APIRouter()
LEFT_OUT = "-"
FIELDS_MAX = 600
Given = Annotated[str, Query(max_length=500)]


async def _form(request: Request) -> FormData:
    """Disks and NICs are fields of their own: nobody knows how many."""
    return await request.form(max_files=0, max_fields=FIELDS_MAX)


@router.get("/restore", response_class=HTMLResponse)
def wizard(request: Request, remote: Given = "", vm: Given = "", point: Given = "", pool: Given = "") -> Response:
    """First the pool, then what it has for this restore point."""
    must(request, Role.OPERATOR)
    house = house_of(request)
    pools = house.backups.pools()
    if not pool and len(pools) == 1:
        pool = pools[0]
    name, found = _point(house, remote, vm, point)
    if pool and pool not in pools:
        raise Refused(404, "there is no pool of this name")
    offers = house.backups.offers(pool) if pool else None
    given = {"remote": remote, "vm": vm, "point": point}
    return render(request, "restore.html", given=given, name=name, point=found, pools=pools, pool=pool, offers=offers)


@router.post("/restore")
def plan(request: Request, form: Annotated[FormData, Depends(_form)]) -> Response:
    """Plan it."""

    def text(key: str) -> str:
        value = form.get(key, "")
        return value[:500] if isinstance(value, str) else ""

    def choices(prefix: str) -> dict[str, str | None]:
        chosen = {key.removeprefix(prefix): text(key) for key in form if key.startswith(prefix)}
        return {key: None if one == LEFT_OUT else one for key, one in chosen.items() if one}

    wish = requests.RestorePlan(
        remote=text("remote"),
        vm=text("vm"),
        vm_name=shown.line(text("vm_name"), 100),
        point=text("point"),
        pool=text("pool"),
        name=text("name"),
        sr=text("sr"),
        disk_srs=choices("disk."),
        networks=choices("nic."),
        new_macs=text("new_macs") == "yes",
        memory=text("no_memory") != "yes",
        start=text("start") == "yes",
        differential="never" if text("whole") == "yes" else "auto",
    )
    return order(request, wish, text("csrf"))


def _point(house: House, remote: str, vm: str, point: str) -> tuple[str, PointView]:
    view = next((one for one in house.backups.points(vm) if one.remote == remote), None)
    if view is None:
        raise Refused(404, "there is no remote of this name")
    found = next((one for one in view.points if one.id == point), None)
    if found is None and view.looked.problem:
        raise Refused(503, f"remote {remote}: {view.looked.problem}")
    if found is None:
        raise Refused(404, "this remote has no such restore point of this VM")
    return view.name or vm, found
