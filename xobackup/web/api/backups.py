"""What is on remotes, and at the other site."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from xobackup.web.api.answers import LOOKING, Limit, Offset, house_of

router = APIRouter()
Uuid = Annotated[
    str, Path(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", description="Of a VM.")
]


@router.get("/backups", dependencies=LOOKING)
def backups(
    request: Request,
    remote: Annotated[str | None, Query(max_length=200)] = None,
    name: Annotated[str | None, Query(max_length=200, description="Of VMs, exactly.")] = None,
    limit: Limit = 1000,
    offset: Offset = 0,
) -> dict[str, Any]:
    """The VMs that have backups, remote by remote, as the hourly look found them."""
    found = []
    for one in house_of(request).backups.listed():
        if remote is None or one.remote == remote:
            vms = [vm for vm in one.vms if name is None or vm.name == name]
            part = replace(one, vms=tuple(vms[offset : offset + limit]))
            found.append({**part.as_data(), "total": len(vms)})
    return {"remotes": found}


@router.get("/backups/{vm}", dependencies=LOOKING)
def points(
    request: Request, vm: Uuid, again: Annotated[bool, Query(description="Whatever is kept.")] = False
) -> dict[str, Any]:
    """The restore points of a VM, remote by remote, looked up now: waited for a few seconds, kept for a minute."""
    return {"vm": vm, "remotes": [one.as_data() for one in house_of(request).backups.points(vm, again=again)]}


@router.get("/replicas", dependencies=LOOKING)
def replicas(request: Request) -> dict[str, Any]:
    """Replicas at all targets, as the hourly look found them; `lag_s` as of now."""
    house = house_of(request)
    now_s = house.now_s()
    found = [one.as_data() for one in house.replicas()]
    for target in found:
        for one in target["replicas"]:
            one["lag_s"] = max(0.0, now_s - one["newest_at"])
    return {"targets": found}


@router.get("/dr", dependencies=LOOKING)
def plans(request: Request) -> dict[str, Any]:
    """Plans of disaster recovery, and what their last tests found."""
    return {"plans": [one.as_data() for one in house_of(request).dr_plans()]}
