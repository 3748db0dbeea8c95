"""The memory of a VM as one more disk of its backup: whole each time, because each time it is another image. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xobackup.engine.base import Full, Route
from xobackup.engine.plan import DiskPlan
from xobackup.engine.reading.ladder import Terms, ladder_of
from xobackup.engine.view import DiskView

NAME = "memory"


def memory_plan(memory: tuple[str, dict[str, Any]], remotes: Sequence[str], terms: Terms) -> DiskPlan:
    """How the image (reference, record) is read, for ``remotes``."""
    ref, record = memory
    disk = DiskView(
        vdi_uuid=str(record["uuid"]),
        vdi_ref=ref,
        name=NAME,
        userdevice="",
        virtual_size_bytes=int(record["virtual_size"]),
        used_bytes=int(record.get("physical_utilisation") or 0),
        sr_uuid="",
        sr_name="",
    )
    route = Route(
        base=None,
        remotes=tuple(remotes),
        full=Full.MEMORY,
        reason="memory is saved whole each time",
        ladder=ladder_of(terms, disk, None),
    )
    return DiskPlan(disk=disk, routes=(route,))
