"""The plans of all VMs of a run, as far as can be told without locks; and what they lack room for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.engine.held import held_notes
from xobackup.engine.placing.foresee import foresee
from xobackup.engine.placing.given import Given
from xobackup.engine.plan import VmPlan, limit_fulls, no_disks, plan_vm
from xobackup.engine.replication.site import refuse_disks
from xobackup.engine.space.check import remote_shortages, usages_of
from xobackup.engine.space.judge import TARGET_HINT, Shortage
from xobackup.engine.space.replicas import target_shortages
from xobackup.engine.tips import tips_of
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.job import Job
    from xobackup.engine.opening import Opened
    from xobackup.engine.select import Skipped


def plans_of(job: Job, opened: Opened) -> tuple[list[VmPlan], list[Skipped]]:
    """Every chosen VM's plan, as far as can be told without locks."""
    plans: list[VmPlan] = []
    skipped: list[Skipped] = []
    given = Given()
    for context, vm in opened.vms:
        if job.settings.distribute:
            plan = foresee(replace(context, given=given), vm)
        else:
            tips, warnings = tips_of(context, vm)
            plan = plan_vm(job, vm, tips, terms=context.means.terms, warnings=tuple(warnings))
        plan = _on_able(job, context, plan)
        plan = replace(plan, notes=(*plan.notes, *held_notes(context, vm), *_far_notes(context)))
        without = no_disks(plan)
        if without is None:
            plans.append(plan)
        else:
            skipped.append(without)
    refused = limit_fulls(tuple(plans), job.settings.unexpected_fulls_max)
    told = limit_told(job)
    return [replace(plan, refusal=told) if plan.vm.uuid in refused else plan for plan in plans], skipped


def _far_notes(context: RunContext) -> tuple[str, ...]:
    """What only a worker can see."""
    hand_out = context.world.hand_out
    far = [name for name in context.job.destinations if hand_out is not None and not hand_out.reached(name)]
    if not far:
        return ()
    return (f"a worker decides what {', '.join(far)} gets, full or delta: not reached from here",)


def _on_able(job: Job, context: RunContext, plan: VmPlan) -> VmPlan:
    """Targets that cannot hold its disks at all are told; when nothing else is left the VM is refused."""
    disks = [one.disk for one in plan.disks]
    unfit = {name: error for name, site in context.sites.items() if (error := refuse_disks(site, disks)) is not None}
    if plan.refusal or not unfit:
        return plan
    told = [f"target {name}: {error}" for name, error in unfit.items()]
    hints = "\n".join(dict.fromkeys(error.hint for error in unfit.values()))
    if set(unfit) >= set(job.destinations):
        return replace(plan, refusal="; ".join(told), hint=hints)
    return replace(plan, warnings=(*plan.warnings, *(f"{one}: it is left out" for one in told)))


def shortages(job: Job, opened: Opened, plans: Sequence[VmPlan]) -> tuple[str, ...]:
    """Remotes and targets without room for all of the run."""
    repositories = opened.contexts[0].repositories if opened.contexts else {}
    short = list(remote_shortages(plans, usages_of(repositories, repositories), job.settings).values())
    for site in opened.contexts[0].sites.values() if opened.contexts else ():
        with suppress(XapiError):  # the plan says so
            short += [one for _, one in target_shortages(job, site, site.look(), plans)]
    return tuple(f"{one.reason}{_left_out(one)}" for one in short)


def _left_out(short: Shortage) -> str:
    """What a certain shortage of a target means for the run."""
    return (
        f": it is left out of VMs that find no room; {TARGET_HINT}"
        if short.refusable and short.where.startswith("target ")
        else ""
    )


def limit_told(job: Job) -> str:
    """Why VMs are refused together."""
    return f"more than {job.settings.unexpected_fulls_max} VMs would unexpectedly be transferred whole"
