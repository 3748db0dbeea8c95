"""The failover: VMs made of restore points, under their own names, with their own addresses, started in order.

Refused while an original runs where it can be asked: the same VM twice is worse than none. Can be run again: a VM
that carries the mark of the plan is not made anew, only started when it does not run, and waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.active import DR_FAILOVER
from xobackup.engine.dr.bring_up import BringUp, Prepared, Tell, VmOutcome
from xobackup.engine.dr.copies import Dress, make_copy
from xobackup.engine.dr.trial import active_of, outcome_of, prepare
from xobackup.engine.errors import UsageError
from xobackup.engine.leftovers.claim import touching

if TYPE_CHECKING:
    from xobackup.engine.dr.look import Look
    from xobackup.engine.dr.plan import PlannedGroup, PlannedVm, Planning
    from xobackup.engine.dr.spec import Group, Plan
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

AT_REST = ("Halted", "Suspended")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedOver:
    """A VM that was failed over. ``point``: the id of its restore point."""

    ref: str
    vm_uuid: str
    point: str
    power_state: str


def failed_over(vms: Mapping[str, Mapping[str, Any]], plan: str) -> dict[str, FailedOver]:
    """By uuid of the VM they are of. A copy that somebody made of one has another uuid, and does not count. Pure."""
    found: dict[str, FailedOver] = {}
    for ref, vm in vms.items():
        words = str((vm.get("other_config") or {}).get(keys.FAILED_OVER, "")).split(" ")
        if len(words) != 4 or words[0] != plan or words[3] != vm.get("uuid") or vm.get("is_a_snapshot"):
            continue
        if keys.whose_temporary(str(vm.get("name_label", ""))) == ("", ""):
            state = str(vm.get("power_state", ""))
            found[words[1]] = FailedOver(ref=ref, vm_uuid=words[1], point=words[2], power_state=state)
    return found


def running_of(done: Mapping[str, FailedOver]) -> tuple[str, ...]:
    """Those of them that run (uuids): they have their memory."""
    return tuple(uuid for uuid, one in done.items() if one.power_state == "Running")


def refuse_two_of_one(planning: Planning, *, force: bool) -> list[str]:
    """Originals that run, as sentences. Raises :class:`UsageError` unless ``force``. Pure."""
    running = [
        f"{vm.name} is {vm.original} in pool {vm.original_pool}"
        for vm in planning.vms
        if vm.point and vm.original_pool and vm.original not in AT_REST
    ]
    if running and not force:
        raise UsageError(
            "the originals still run, and a failover would make two of each:\n" + "\n".join(running),
            hint="shut them down first; --force only when nobody can reach them any more",
        )
    return running


def fail_over(
    world: World, session: Session, plan: Plan, planning: Planning, seen: Look, *, tell: Tell = lambda _: None
) -> list[VmOutcome]:
    """Bring up what is planned and not up yet. What goes wrong with a VM is its outcome; raises :class:`Cancelled`,
    after which what is up stays up."""
    work = _Failover(world=world, session=session, plan=plan, seen=seen, run_id=world.new_id())
    begun_s = world.clock.monotonic_s()
    known = failed_over(seen.records["VM"], plan.name)
    groups: list[tuple[Group, list[Prepared]]] = []
    for group in planning.groups:
        made: list[Prepared] = []
        for vm in group.vms:
            world.cancel.check()
            done = known.get(vm.vm_uuid)
            made.append(_again(group, vm, done) if done else work.make(group, vm))
        groups.append((group.group, made))
    return BringUp(world=world, session=session, begun_s=begun_s, harmless=False, tell=tell).run(groups)


def _again(group: PlannedGroup, vm: PlannedVm, done: FailedOver) -> Prepared:
    outcome = replace(outcome_of(group, vm), point=done.point)
    if vm.point is None or vm.point.id != done.point:
        note = f"it was failed over before, from {done.point}; that VM is used"
        outcome = replace(outcome, warnings=(*outcome.warnings, note))
    return Prepared(vm=vm, vm_ref=done.ref, outcome=outcome, network=bool(vm.networks))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failover:
    """One run of it."""

    world: World
    session: Session
    plan: Plan
    seen: Look
    run_id: str

    def make(self, group: PlannedGroup, vm: PlannedVm) -> Prepared:
        outcome, point = outcome_of(group, vm), vm.point
        if point is None or vm.problems:
            return Prepared(vm=vm, vm_ref="", outcome=replace(outcome, reason="; ".join(vm.problems)))
        dress = Dress(name=vm.name, network="", ha=group.group.ha, auto_start=group.group.auto_start)
        active = active_of(DR_FAILOVER, self.run_id, vm, self.seen, self.world)
        with touching(self.world.active_directory, self.session, active) as claim:

            def make(warn: Callable[[str], None]) -> str:
                return make_copy(
                    self.session,
                    point,
                    dress,
                    run_id=self.run_id,
                    claim=claim,
                    marks=lambda uuid: {keys.FAILED_OVER: f"{self.plan.name} {vm.vm_uuid} {point.id} {uuid}"},
                    warn=warn,
                )

            return prepare(self.world, vm, outcome, make, network=True)
