"""Plans of disaster recovery: looked at, and tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xobackup.cli.dr_plans import Opened
    from xobackup.engine.dr.failover import FailedOver
    from xobackup.engine.dr.plan import PlannedVm, Planning
    from xobackup.engine.dr.report import Trial


def look(site: Opened) -> tuple[Planning, dict[str, FailedOver]]:
    """What a failover would do now; and what was failed over already, by uuid of the VM it is of."""
    from xobackup.engine.dr.failover import failed_over, running_of

    done = failed_over(site.seen.records["VM"], site.plan.name)
    return site.planning(running=running_of(done)), done


def rehearsed(site: Opened, *, tell: Callable[[str], None], warn: Callable[[str], None]) -> Trial:
    """Bring up clones, measure, remove them, remember what was found."""
    from xobackup.engine.dr.remembered import remember
    from xobackup.engine.dr.trial import rehearse
    from xobackup.engine.leftovers.clean import recover

    recover(site.world, site.session, site.seen.site.pool_uuid)
    planning = site.planning()
    for text in planning.all_problems:
        warn(text)
    trial = rehearse(site.world, site.session, site.plan, planning, site.seen, tell=tell)
    remember(site.world.state_directory, trial, now_s=site.world.clock.now_s(), run_id=site.world.new_id())
    return trial


def complaints(trial: Trial) -> list[str]:
    """Why a test did not pass, as sentences."""
    told = [*trial.problems, *(f"{one.name}: {one.reason}" for one in trial.vms if not one.ok)]
    return told or ["the plan means no VM that is replicated"]


def vm_data(group: str, vm: PlannedVm, done: Mapping[str, FailedOver]) -> dict[str, Any]:
    """One VM of a plan, as JSON data."""
    before = done.get(vm.vm_uuid)
    known = {"point": before.point, "power_state": before.power_state} if before else None
    return {"group": group, **vm.as_data(), "failed_over": known}


def planning_data(planning: Planning) -> dict[str, Any]:
    """The plan as a whole, as JSON data."""
    problems = planning.all_problems
    memory = {"needed": planning.memory_needed_bytes, "free": planning.memory_free_bytes}
    return {
        "plan": planning.name,
        "ok": not problems,
        "memory_bytes": memory,
        "problems": problems,
        "warnings": list(planning.warnings),
    }
