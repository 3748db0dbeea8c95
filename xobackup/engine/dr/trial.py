"""A failover on trial: copies in an isolated network, brought up in order, timed, and removed whatever happens.

The copies carry the mark of a health check, so that those of a trial that was killed go at the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from xobackup.clock import utc
from xobackup.engine import keys
from xobackup.engine.active import DR_TEST, Active
from xobackup.engine.dr.bring_up import BringUp, Prepared, Tell, VmOutcome
from xobackup.engine.dr.copies import Dress, make_copy
from xobackup.engine.dr.report import Trial
from xobackup.engine.errors import EngineError
from xobackup.engine.health.removal import remove_check
from xobackup.engine.health.request import Step
from xobackup.engine.leftovers.claim import touching
from xobackup.engine.restore.plan import named
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.dr.look import Look
    from xobackup.engine.dr.plan import PlannedGroup, PlannedVm, Planning
    from xobackup.engine.dr.spec import Plan
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

NAME = "DR test - "
TAG = "xo:no-bak=DR test"


def rehearse(
    world: World, session: Session, plan: Plan, planning: Planning, seen: Look, *, tell: Tell = lambda _: None
) -> Trial:
    """Raises :class:`UsageError` when the isolated network is not there, :class:`Cancelled`; what a VM does wrong is
    its outcome."""
    network = None if plan.test_network is None else named("network", plan.test_network, seen.site.networks)
    run_id, begun_s = world.new_id(), world.clock.monotonic_s()
    started_at = utc(world.clock.now_s()).isoformat(timespec="seconds")
    work = _Trial(world=world, session=session, seen=seen, run_id=run_id, network=network, tell=tell)
    removed: dict[str, bool] = {}
    with ExitStack() as claims:
        try:
            groups = [(one.group, [work.prepare(one, vm, claims) for vm in one.vms]) for one in planning.groups]
            bring_up = BringUp(world=world, session=session, begun_s=begun_s, harmless=True, tell=tell)
            outcomes = bring_up.run(groups)
        finally:
            removed = work.remove_all()
    return Trial(
        plan=plan.name,
        target=plan.target.name,
        pool=plan.target.pool.name,
        network=plan.test_network or "",
        started_at=started_at,
        rpo_s=plan.rpo_s,
        problems=tuple(planning.general_problems),
        vms=tuple(replace(one, removed=removed.get(one.vm_uuid, True)) for one in outcomes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """The copies of one trial. ``made``: references by the uuid of the VM they are of."""

    world: World
    session: Session
    seen: Look
    run_id: str
    network: str | None
    tell: Tell
    made: dict[str, str] = field(default_factory=dict)

    def prepare(self, group: PlannedGroup, vm: PlannedVm, claims: ExitStack) -> Prepared:
        self.world.cancel.check()
        outcome = outcome_of(group, vm)
        if vm.point is None:
            return Prepared(vm=vm, vm_ref="", outcome=replace(outcome, reason="; ".join(vm.problems)))
        claim = claims.enter_context(
            touching(
                self.world.active_directory,
                self.session,
                active_of(DR_TEST, self.run_id, vm, self.seen, self.world),
            )
        )
        marks = {keys.HEALTH_CHECK: self.run_id}
        dress = Dress(name=f"{NAME}{vm.name}", network=self.network, disk_marks=marks, tags=(TAG,))

        def make(warn: Callable[[str], None]) -> str:
            assert vm.point is not None
            return make_copy(
                self.session,
                vm.point,
                dress,
                run_id=self.run_id,
                claim=claim,
                marks=lambda uuid: {keys.HEALTH_CHECK: f"{self.run_id} {uuid}"},
                warn=warn,
            )

        prepared = prepare(self.world, vm, outcome, make, network=self.network is not None)
        if prepared.vm_ref:
            self.made[vm.vm_uuid] = prepared.vm_ref
        return prepared

    def remove_all(self) -> dict[str, bool]:
        """Whether each is gone."""
        removed: dict[str, bool] = {}
        for vm_uuid, ref in self.made.items():
            try:
                remove_check(self.session, ref, self.run_id)
                removed[vm_uuid] = True
            except XapiError as error:
                self.tell(f"a VM of the test could not be removed now, the next start tries again: {error}")
                removed[vm_uuid] = False
        return removed


def prepare(
    world: World,
    vm: PlannedVm,
    outcome: VmOutcome,
    make: Callable[[Callable[[str], None]], str],
    *,
    network: bool,
) -> Prepared:
    """Have it made, timed; what goes wrong is its outcome. Raises :class:`Cancelled`."""
    began_s, reason, ref = world.clock.monotonic_s(), "", ""
    warnings: list[str] = list(outcome.warnings)
    try:
        ref = make(warnings.append)
    except (EngineError, XapiError) as error:
        world.cancel.check()
        reason = str(error)
    step = Step(name="clone", seconds=round(world.clock.monotonic_s() - began_s, 3), ok=not reason)
    done = replace(outcome, steps=(step,), reason=reason, warnings=tuple(warnings))
    return Prepared(vm=vm, vm_ref=ref, outcome=done, network=network and bool(vm.networks))


def outcome_of(group: PlannedGroup, vm: PlannedVm) -> VmOutcome:
    """Before anything was done."""
    return VmOutcome(
        group=group.group.name,
        vm_uuid=vm.vm_uuid,
        name=vm.name,
        point=vm.point.id if vm.point else "",
        age_s=round(vm.age_s, 1),
        warnings=vm.warnings,
    )


def active_of(kind: str, run_id: str, vm: PlannedVm, seen: Look, world: World) -> Active:
    """What says on this machine that the copy of that VM is being worked on."""
    return Active(
        run_id=run_id,
        job_id="",
        job=kind,
        pool_uuid=seen.site.pool_uuid,
        vm_uuid=vm.vm_uuid,
        since_s=world.clock.now_s(),
        kind=kind,
    )
