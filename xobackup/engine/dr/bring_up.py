"""VMs are started group by group, asked whether they are ready, and timed.

All VMs of a group are started at once. The next group waits until every VM of this one is ready or has failed, and
for the group's delay then. A VM that does not come up holds up nobody: it is told, the others go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xobackup.engine.errors import Cancelled, EngineError
from xobackup.engine.health import guest
from xobackup.engine.health.boot import Machine
from xobackup.engine.health.probes import ask
from xobackup.engine.health.request import Step
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.dr.plan import PlannedVm
    from xobackup.engine.dr.spec import Group
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

STARTED_MAX = 16
"""VMs of a group that are started and waited for at the same time."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmOutcome:
    """What became of one VM. ``reason``: why it is not ready; ``""``: it is."""

    group: str
    vm_uuid: str
    name: str
    point: str
    age_s: float
    ready_after_s: float = 0.0
    """From the beginning of everything to its last answer: its time to recovery."""
    steps: tuple[Step, ...] = ()
    reason: str = ""
    removed: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.reason

    def as_data(self) -> dict[str, Any]:
        """For JSON, stable keys."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A VM that was made. ``outcome``: what is known so far; one with a reason is not started."""

    vm: PlannedVm
    vm_ref: str
    outcome: VmOutcome
    network: bool = True


@dataclass(slots=True, kw_only=True)
class BringUp:
    """``begun_s``: by the monotonic clock. ``harmless``: what is started is on trial: neither HA nor a host that
    boots may start it."""

    world: World
    session: Session
    begun_s: float
    harmless: bool
    tell: Tell = field(default=lambda _: None)

    def run(self, groups: Sequence[tuple[Group, Sequence[Prepared]]]) -> list[VmOutcome]:
        """In that order. Raises :class:`Cancelled`, with nothing undone."""
        found: list[VmOutcome] = []
        for number, (group, vms) in enumerate(groups):
            if not vms:
                continue
            self.world.cancel.check()
            self.tell(f"group {group.name}: {len(vms)} to start")
            with ThreadPoolExecutor(STARTED_MAX, thread_name_prefix="dr") as threads:
                found += threads.map(lambda one, of=group: self._one(of, one), vms)
            if group.delay_s and number + 1 < len(groups):
                self.tell(f"group {group.name}: waiting {group.delay_s:g} s as planned")
                self._pause(group.delay_s)
        return found

    def _one(self, group: Group, vm: Prepared) -> VmOutcome:
        if vm.outcome.reason:
            return vm.outcome
        steps: list[Step] = list(vm.outcome.steps)
        reason, warnings = "", list(vm.outcome.warnings)
        try:
            warnings += self._ask(group, vm, steps)
        except Cancelled:
            raise
        except (EngineError, XapiError) as error:
            reason = str(error)
        after_s = round(self.world.clock.monotonic_s() - self.begun_s, 3)
        self.tell(f"{vm.vm.name}: {f'NOT ready: {reason}' if reason else f'ready after {after_s:.1f} s'}")
        return replace(vm.outcome, ready_after_s=after_s, steps=tuple(steps), reason=reason, warnings=tuple(warnings))

    def _ask(self, group: Group, vm: Prepared, steps: list[Step]) -> list[str]:
        world, ready = self.world, group.ready
        until_s = world.clock.monotonic_s() + ready.timeout_s
        machine = Machine(world=world, session=self.session, vm_ref=vm.vm_ref, until_s=until_s)
        if self.harmless:
            machine.make_harmless(script=False)
        if machine.record()["power_state"] != "Running":
            with self._timed(steps, "boot"):
                machine.start()
        if ready.tools:
            with self._timed(steps, "guest tools"):
                machine.wait_for_tools(advice="for a guest without them: ready.tools = false, and something to ask")
        told = {"XOBACKUP_VM_UUID": vm.vm.vm_uuid, "XOBACKUP_VM_NAME": vm.vm.name}
        told["XOBACKUP_POINT"] = vm.outcome.point
        for probe in ready.probes(network=vm.network):
            with self._timed(steps, probe.name):
                ask(
                    probe,
                    address=lambda: guest.address_of(machine.metrics()),
                    environment=told,
                    until_s=until_s,
                    clock=world.clock,
                    check=world.cancel.check,
                )
        skipped = ready.tcp is not None and not vm.network
        return [f"tcp {ready.tcp} was not asked: the VM has no network"] if skipped else []

    @contextlib.contextmanager
    def _timed(self, steps: list[Step], name: str) -> Iterator[None]:
        began_s, ok = self.world.clock.monotonic_s(), False
        try:
            yield
            ok = True
        finally:
            steps.append(Step(name=name, seconds=round(self.world.clock.monotonic_s() - began_s, 3), ok=ok))

    def _pause(self, seconds: float) -> None:
        until_s = self.world.clock.monotonic_s() + seconds
        while (left_s := until_s - self.world.clock.monotonic_s()) > 0:
            self.world.cancel.check()
            self.world.clock.sleep(min(0.5, left_s))
