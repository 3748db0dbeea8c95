"""Where a VM would go now, looked at without a lock: for showing a plan, not for acting on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.engine.directory_target import newest_ms
from xobackup.engine.placing.decide import Seen, decide
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.tips import tips_of

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.plan import VmPlan
    from xobackup.engine.view import VmView


def foresee(context: RunContext, vm: VmView) -> VmPlan:
    """The VM's plan on the remote that would be chosen, once those planned before got theirs (``context.given``)."""
    tips, warnings = tips_of(context, vm)
    newest: dict[str, int] = {}
    problems: dict[str, str] = {}
    for name, repository in context.repositories.items():
        try:
            listing = repository.points(vm.uuid)
        except SINK_ERRORS as error:
            problems[name] = str(error)
            continue
        if all(name in known for known in tips.values()):
            newest[name] = newest_ms(listing.points, context.job.id, mode=context.job.settings.mode)
        else:
            problems[name] = "its chains could not be looked at"
    plan = decide(context, vm, Seen(tips=tips, newest_ms=newest, problems=problems)).plan
    return replace(plan, warnings=(*warnings, *plan.warnings))
