"""The pages, a module each: what one asks for, put into a template. Forms lead back to the page they came from.

:mod:`.rendering`: the templates and what every page has in common.
"""

from __future__ import annotations

from fastapi import APIRouter

from xobackup.web.pages import (
    backups,
    logins,
    operations,
    overview,
    problems,
    recovery,
    remotes,
    restoring,
    runs,
    schedules,
    vms,
    workers,
)
from xobackup.web.pages.rendering import error_page

router = APIRouter(include_in_schema=False)
for one in (
    overview,
    vms,
    backups,
    restoring,
    runs,
    schedules,
    remotes,
    recovery,
    workers,
    operations,
    problems,
    logins,
):
    router.include_router(one.router)

__all__ = ["error_page", "router"]
