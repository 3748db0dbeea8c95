"""What is ordered besides runs of schedules: each answer is an operation, to be asked for until it has ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from xobackup.service.operations import Operation
from xobackup.web import requests
from xobackup.web.access import Role
from xobackup.web.api.answers import LOOKING, Limit, Name, change, house_of
from xobackup.web.api.backups import Uuid
from xobackup.web.api.schedules import Reason
from xobackup.web.app import address_of, must
from xobackup.web.house import Refused

router = APIRouter()
PIECE_BYTES = 1 << 20
Text = Annotated[str, Field(max_length=500)]
Given = Annotated[str, Field(min_length=1, max_length=500)]
Choices = Annotated[dict[Given, Text | None], Field(max_length=256)]


class Body(BaseModel):
    """What is not known is refused: a typing mistake must not become a default."""

    model_config = ConfigDict(extra="forbid")


class OnRemote(Body):
    """Which remote."""

    remote: Given


class PinBody(OnRemote):
    """Where, why, and until when."""

    note: Text = ""
    until: Annotated[str, Field(max_length=50, description="2027-01-31, or a moment; for ever when absent.")] = ""


class VerifyBody(OnRemote):
    """What to verify: everything on a remote when nothing else is said."""

    vm: Annotated[str, Field(max_length=500, description="Uuid or name.")] = ""
    point: Text = ""
    latest: bool = False
    slice: Annotated[str, Field(max_length=50, description="2%: what was verified longest ago; 3/30.")] = ""


class RestorePlanBody(OnRemote):
    """What to restore as a new VM, and how. SRs and networks by uuid or name; `null` leaves a disk or NIC out."""

    vm: Given
    point: Given = "latest"
    pool: Given
    name: Text = ""
    sr: Text = ""
    disk_srs: Choices = Field(default_factory=dict, description="By device, name or uuid of the disk.")
    networks: Choices = Field(default_factory=dict, description="By device, MAC or network of the NIC.")
    new_macs: bool = False
    memory: bool = True
    start: bool = False
    differential: Literal["auto", "never", "require"] = "auto"
    check: bool = True


class RestoreBody(Body):
    """The operation that planned it."""

    plan: Given


@router.get("/operations", dependencies=LOOKING)
def operations(request: Request, limit: Limit = 100) -> dict[str, Any]:
    """What was ordered, the newest first; without results."""
    return {"operations": [_summary(one) for one in house_of(request).desk.newest(limit)]}


@router.get("/operations/{operation}", dependencies=LOOKING)
def operation(request: Request, operation: Name) -> dict[str, Any]:
    """One of them, with what came out, or how far it is."""
    desk = house_of(request).desk
    return {**desk.get(operation).as_data(), "meters": list(desk.meters(operation))}


@router.get(
    "/operations/{operation}/files/{name}",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
def written(request: Request, operation: Name, name: Name) -> StreamingResponse:
    """A file that a command wrote into the directory of exchange."""
    who = must(request, Role.ADMIN)
    request.app.state.door.audit.note(who.name, address_of(request), "download", f"{name} of operation {operation}")
    file = house_of(request).desk.written(operation, name)
    size_bytes = os.fstat(file.fileno()).st_size
    headers = {"Content-Length": str(size_bytes), "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_read(file, size_bytes), media_type="application/octet-stream", headers=headers)


def _read(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    """Not more than was promised, should it grow."""
    with file:
        while size_bytes > 0 and (piece := file.read(min(PIECE_BYTES, size_bytes))):
            size_bytes -= len(piece)
            yield piece


@router.post("/operations/{operation}/cancel", status_code=202)
def cancel(request: Request, operation: Name, body: Reason | None = None) -> dict[str, Any]:
    """Stop it: it cleans up on its way out."""
    who = change(request, Role.OPERATOR, "cancel operation", operation)
    reason = body.reason if body else "by the API"
    desk = house_of(request).desk
    if not desk.cancel(operation, f"cancelled by {who}: {reason}"):
        raise Refused(409, "it has ended already")
    return _summary(desk.get(operation))


@router.post("/backups/{vm}/points/{point}/pin", status_code=202)
def pin(request: Request, response: Response, vm: Uuid, point: Name, body: PinBody) -> dict[str, Any]:
    """Keep a restore point whatever retention says."""
    wish = requests.Pin(remote=body.remote, vm=vm, point=point, note=body.note, until=body.until)
    return _ordered(request, response, wish)


@router.post("/backups/{vm}/points/{point}/unpin", status_code=202)
def unpin(request: Request, response: Response, vm: Uuid, point: Name, body: OnRemote) -> dict[str, Any]:
    """Let retention decide about it again."""
    return _ordered(request, response, requests.Unpin(remote=body.remote, vm=vm, point=point))


@router.post("/verify", status_code=202)
def verify(request: Request, response: Response, body: VerifyBody) -> dict[str, Any]:
    """Read backups, and compare them with what was written."""
    return _ordered(request, response, requests.Verify(**body.model_dump()))


@router.post("/restore-plans", status_code=202)
def restore_plan(request: Request, response: Response, body: RestorePlanBody) -> dict[str, Any]:
    """Say what a restore as a new VM would do. Touches nothing."""
    return _ordered(request, response, requests.RestorePlan(**body.model_dump()))


@router.post("/restores", status_code=202)
def restore(request: Request, response: Response, body: RestoreBody) -> dict[str, Any]:
    """Carry out a plan. Refused when it would do something else by now than the plan said."""
    who = change(request, Role.OPERATOR, "restore", f"plan {body.plan}")
    return answer(response, house_of(request).desk.restore(body.plan, who))


@router.post("/runs/{run_id}/retry", status_code=202)
def retry(request: Request, response: Response, run_id: Name) -> dict[str, Any]:
    """Back up the VMs that failed in a run again."""
    who = change(request, Role.OPERATOR, "retry", run_id)
    return answer(response, house_of(request).desk.retry(run_id, who))


@router.post("/jobs/{job}/plan", status_code=202)
def job_plan(request: Request, response: Response, job: Name) -> dict[str, Any]:
    """Say what a run of a job would do, and why. Touches nothing."""
    return _ordered(request, response, requests.JobPlan(job=job))


@router.post("/dr/{plan}/plan", status_code=202)
def dr_plan(request: Request, response: Response, plan: Name) -> dict[str, Any]:
    """Say what a failover would do now, and what is in its way. Changes nothing."""
    return _ordered(request, response, requests.DrPlan(plan=plan))


@router.post("/dr/{plan}/test", status_code=202)
def dr_test(request: Request, response: Response, plan: Name) -> dict[str, Any]:
    """Bring up clones of the replicas in the isolated network, measure, and remove them."""
    return _ordered(request, response, requests.DrTest(plan=plan))


def _ordered(request: Request, response: Response, wish: requests.Wish) -> dict[str, Any]:
    who = change(request, Role.OPERATOR, wish.kind, wish.about)
    return answer(response, house_of(request).desk.order(wish, who))


def answer(response: Response, made: Operation) -> dict[str, Any]:
    """What was ordered, and where to ask for it."""
    response.headers["Location"] = f"/api/v1/operations/{made.id}"
    return _summary(made)


def _summary(one: Operation) -> dict[str, Any]:
    return {key: value for key, value in one.as_data().items() if key not in ("result", "said", "asked")}
