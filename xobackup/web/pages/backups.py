"""What is on the remotes: VMs, and the restore points of one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from xobackup.web import charts, requests, shown
from xobackup.web.access import Role
from xobackup.web.app import must
from xobackup.web.house import Refused
from xobackup.web.pages.operations import Csrf, Text, VmName, order
from xobackup.web.pages.rendering import door_of, house_of, render
from xobackup.web.views import PointsView

router = APIRouter()
VMS_PER_PAGE = 100
POINTS_DRAWN = 60
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@router.get("/backups", response_class=HTMLResponse)
def backups(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    remote: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """The VMs on all remotes."""
    must(request, Role.VIEWER)
    listed = house_of(request).backups.listed()
    text = q.strip().lower()
    chosen = [
        (one.remote, vm)
        for one in listed
        if not remote or one.remote == remote
        for vm in one.vms
        if not text or text in vm.name.lower() or text in vm.uuid
    ]
    first = (page - 1) * VMS_PER_PAGE
    return render(
        request,
        "backups.html",
        listed=listed,
        rows=chosen[first : first + VMS_PER_PAGE],
        total=len(chosen),
        first=first,
        page=page,
        pages=-(-len(chosen) // VMS_PER_PAGE),
        q=q,
        remote=remote,
        query=urlencode({"q": q, "remote": remote}),
    )


@router.get("/vms/{uuid}/points", response_class=HTMLResponse)
def points(request: Request, uuid: str, again: bool = False) -> Response:
    """Remote by remote."""
    must(request, Role.VIEWER)
    if not UUID.fullmatch(uuid):
        raise Refused(404, "this is no uuid of a VM")
    views = house_of(request).backups.points(uuid, again=again)
    name = next((view.name for view in views if view.name), "")
    pictures = [Markup(_sizes(request, view)) if view.points else "" for view in views]  # noqa: S704
    shown_views = list(zip(views, pictures, strict=True))
    return render(request, "points.html", views=shown_views, uuid=uuid, name=name or uuid)


@router.post("/points/{deed}")
def pin(
    request: Request,
    deed: str,
    *,
    csrf: Csrf = "",
    remote: Text = "",
    vm: Text = "",
    vm_name: VmName = "",
    point: Text = "",
    note: Text = "",
    until: Annotated[str, Form(max_length=50)] = "",
) -> Response:
    """Pin a restore point, or take its pin off."""
    name = shown.line(vm_name, 100)
    wish: requests.Wish
    if deed == "pin":
        wish = requests.Pin(remote=remote, vm=vm, vm_name=name, point=point, note=note, until=until)
    elif deed == "unpin":
        wish = requests.Unpin(remote=remote, vm=vm, vm_name=name, point=point)
    else:
        raise Refused(404, f"a restore point has no {shown.line(deed, 40)!r}")
    return order(request, wish, csrf, back=f"/vms/{shown.path(vm)}/points")


def _sizes(request: Request, view: PointsView) -> str:
    zone = door_of(request).settings.zone
    drawn: Sequence[charts.Mark] = [
        charts.Mark(
            label=shown.moment(one.taken_at, zone)[5:10],
            parts=(("warn" if _whole(one.disks) else "plain", float(one.size_bytes)),),
            told=f"{shown.moment(one.taken_at, zone)}: {shown.size(one.size_bytes)}",
        )
        for one in reversed(view.points[:POINTS_DRAWN])
    ]
    return charts.bars("Size of restore points", drawn, shown=shown.size, empty="no size is told")


def _whole(disks: Sequence[object]) -> bool:
    return any(not getattr(disk, "delta", False) for disk in disks)
