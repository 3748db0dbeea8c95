"""What was ordered, how far it is, and what came out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from xobackup.service.operations import Operation
from xobackup.web import requests
from xobackup.web.access import Role
from xobackup.web.app import may_change, must
from xobackup.web.house import Refused
from xobackup.web.pages.rendering import house_of, render
from xobackup.web.shown import line, path

router = APIRouter()
SHOWN = 100
QUICK_S = 2.0
"""What has ended by then needs no page of its own."""
Csrf = Annotated[str, Form(max_length=200)]
Text = Annotated[str, Form(max_length=500)]
VmName = Annotated[str, Form(max_length=5000)]
"""For people; guests call themselves what they like."""


@router.get("/operations", response_class=HTMLResponse)
def operations(request: Request) -> Response:
    """The newest first."""
    must(request, Role.VIEWER)
    return render(request, "operations.html", operations=house_of(request).desk.newest(SHOWN))


@router.get("/operations/{operation_id}", response_class=HTMLResponse)
def operation(request: Request, operation_id: str) -> Response:
    """One of them."""
    must(request, Role.VIEWER)
    desk = house_of(request).desk
    found = desk.get(operation_id)
    change = ""
    if found.kind == requests.RestorePlan.kind:
        change = urlencode({key: found.asked[key] for key in ("remote", "vm", "point", "pool")})
    return render(request, "operation.html", one=found, meters=desk.meters(operation_id), change=change)


@router.post("/operations/{operation_id}/cancel")
def cancel(request: Request, operation_id: str, csrf: Csrf = "") -> Response:
    """It cleans up on its way out."""
    who = may_change(request, Role.OPERATOR, csrf, "cancel operation", operation_id)
    if not house_of(request).desk.cancel(operation_id, f"cancelled by {who.name}"):
        raise Refused(409, "it has ended already")
    return to_operation(operation_id)


@router.post("/operations/{operation_id}/restore")
def restore(request: Request, operation_id: str, csrf: Csrf = "") -> Response:
    """Carry out the plan that was shown."""
    who = may_change(request, Role.OPERATOR, csrf, "restore", f"plan {operation_id}")
    return to_operation(house_of(request).desk.restore(operation_id, who.name).id)


@router.post("/runs/{run_id}/retry")
def retry(request: Request, run_id: str, csrf: Csrf = "") -> Response:
    """The VMs that failed."""
    who = may_change(request, Role.OPERATOR, csrf, "retry", run_id)
    return to_operation(house_of(request).desk.retry(run_id, who.name).id)


@router.post("/jobs/{job}/plan")
def job_plan(request: Request, job: str, csrf: Csrf = "") -> Response:
    """What a run would do."""
    return order(request, requests.JobPlan(job=job), csrf)


@router.post("/verify")
def verify(
    request: Request,
    *,
    csrf: Csrf = "",
    remote: Text = "",
    vm: Text = "",
    vm_name: VmName = "",
    point: Text = "",
    what: Text = "",
) -> Response:
    """``what``: ``latest``, ``""`` for everything, or a slice."""
    latest = what == "latest"
    wish = requests.Verify(
        remote=remote, vm=vm, vm_name=line(vm_name, 100), point=point, latest=latest, slice="" if latest else what
    )
    return order(request, wish, csrf)


def order(request: Request, wish: requests.Wish, csrf: str, *, back: str = "") -> Response:
    """Order it if one may, written down before. ``back``: where to go when it has ended well at once."""
    who = may_change(request, Role.OPERATOR, csrf, wish.kind, wish.about)
    desk = house_of(request).desk
    made: Operation = desk.order(wish, who.name)
    if back and desk.wait(made.id, QUICK_S).state == "done":
        return RedirectResponse(back, status_code=303)
    return to_operation(made.id)


def to_operation(operation_id: str) -> Response:
    return RedirectResponse(f"/operations/{path(operation_id)}", status_code=303)
