"""``/api/v1``: what the pages show and do, for programs; and what watches the service.

:mod:`.answers`: what all answers have in common. :mod:`.looking`, :mod:`.backups`, :mod:`.workers`: what is asked.
:mod:`.schedules`, :mod:`.operations`: what is ordered. :mod:`.commands`: the whole command line. :mod:`.health`:
health, readiness, metrics.
"""

from __future__ import annotations

from fastapi import APIRouter

from xobackup.web.api import backups, commands, health, looking, operations, schedules, workers
from xobackup.web.api.answers import RESPONSES

router = APIRouter(prefix="/api/v1", responses=RESPONSES)
for one in (looking, backups, schedules, operations, workers):
    router.include_router(one.router)

__all__ = ["commands", "health", "router"]
