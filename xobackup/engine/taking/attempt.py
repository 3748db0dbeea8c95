"""Taking one VM in one attempt: marks off, changes tracked; the moment chosen, the snapshot, the plan that fits it.

The moment is later than every restore point of the VM, because their names must grow. A disk that came or went
between the plan and the snapshot changes the plan or, when it came, fails the attempt: it would be missing from the
restore point without anybody knowing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from xobackup.clock import utc
from xobackup.engine.cancel import CancelToken
from xobackup.engine.context import RunContext
from xobackup.engine.errors import VmRefused
from xobackup.engine.limits.turnstile import Turnstile, srs_of
from xobackup.engine.plan import VmPlan
from xobackup.engine.prepare import Preparation
from xobackup.engine.taking.dropping import drop_taken
from xobackup.engine.taking.marks import reset_marks
from xobackup.engine.taking.owed import StartFailed
from xobackup.engine.taking.power import PowerCycle
from xobackup.engine.taking.snapshot import take_snapshot
from xobackup.engine.taking.taken import Taken, read_taken
from xobackup.engine.taking.way import Method
from xobackup.engine.tracking import track_changes
from xobackup.engine.view import SrView

CLOCK_BEHIND_MAX_S = 5.0
"""A newest point that much ahead is waited for; more means that a clock is wrong."""


class Taking:
    """One attempt's."""

    def __init__(
        self,
        context: RunContext,
        prepared: Preparation,
        *,
        cancel: CancelToken,
        warn: Callable[[str], None],
        fail: Callable[[BaseException], None],
        remarks: list[str],
    ) -> None:
        """``fail`` hears what makes the VM fail though its backup goes on; ``remarks`` gets what the report should
        tell besides warnings."""
        self._context = context
        self._prepared = prepared
        self._cancel = cancel
        self._warn = warn
        self._fail = fail
        self._remarks = remarks
        self._told = False
        self._power = PowerCycle(context, lambda: prepared.vm, cancel=cancel, warn=warn)

    def srs(self, plan: VmPlan) -> list[SrView]:
        """Where the snapshot will have disks."""
        left_out = {disk.uuid for disk in plan.skipped_disks}
        if plan.taking.method is Method.WITHOUT:
            return []
        return srs_of(disk.sr for disk in self._prepared.vm.disks if disk.vdi_uuid not in left_out)

    def place(self, plan: VmPlan) -> AbstractContextManager[None]:
        """Room for the snapshot on the pool and the SRs; to wait for before anything is frozen."""
        vm = self._prepared.vm
        if plan.taking.method is Method.WITHOUT:
            return contextlib.nullcontext()
        return Turnstile(self._context, vm=vm.uuid, name=vm.name).snapshot(self.srs(plan), self._cancel)

    def ready(self, plan: VmPlan) -> None:
        """Everything that can be done before the moment itself, so that nothing is frozen for longer than needed."""
        if plan.taking.warning:
            self._warn(plan.taking.warning)
        reset_marks(self._context.session, self._prepared.vm)
        track_changes(self._context, self._prepared.vm, plan, self._warn, self._remarks)

    def shut_down(self, plan: VmPlan) -> bool:
        """Shut the VM down, if its plan says so; returns whether it did. From here on it is owed its start."""
        self._power.adopt()
        if plan.taking.shuts_down:
            self._power.shut_down()
        return plan.taking.shuts_down

    def take(self, plan: VmPlan, moment: datetime) -> Taken:
        """The VM, in the way its plan says. On any failure what was made of it is removed again. A VM that was shut
        down for a snapshot is started again."""
        if plan.taking.method is Method.WITHOUT:
            taken = read_taken(self._context.session, self._prepared.vm.ref, moment)
        else:
            try:
                taken = self._snapshot(plan, moment)
            finally:
                self.start_again()
        if None in taken.vtpms:
            self._warn("the host does not give the contents of its virtual TPM: they are not backed up")
        return taken

    def start_again(self) -> None:
        """Start a VM that was shut down, if it still is owed that. That it could not be is told as an error of this
        VM, because it is off and should not be; calling again tries again."""
        try:
            self._power.start_again()
        except StartFailed as error:
            if not self._told:
                self._told = True
                self._fail(error)

    def end(self) -> None:
        """Start it now at the latest; what cannot be done is left to the next start of any run."""
        self.start_again()
        self._power.give_up()

    @property
    def downtime_s(self) -> float:
        return self._power.downtime_s

    def _snapshot(self, plan: VmPlan, moment: datetime) -> Taken:
        vm, left_out = self._prepared.vm, {disk.uuid for disk in plan.skipped_disks}
        return take_snapshot(
            self._context.session,
            vm,
            self._context.job,
            run_id=self._context.run_id,
            moment=moment,
            ignore_vdi_refs=[disk.vdi_ref for disk in vm.disks if disk.vdi_uuid in left_out],
            memory=plan.taking.method is Method.MEMORY,
            cancel=self._cancel,
            warn=self._warn,
        )

    def match(self, plan: VmPlan, taken: Taken) -> VmPlan:
        """The plan for the disks that the snapshot really has: one may have come or gone since we looked."""
        planned = {disk.disk.vdi_uuid for disk in plan.disks}
        if set(taken.vdis) == planned:
            return plan
        _, vm = self._prepared.look()
        again = self._prepared.replan(vm, self._prepared.tips(vm))
        disks = tuple(disk for disk in again.disks if disk.disk.vdi_uuid in taken.vdis)
        missing = set(taken.vdis) - {disk.disk.vdi_uuid for disk in disks}
        if missing or not disks:
            raise VmRefused(
                f"its disks changed during the snapshot ({', '.join(sorted(missing)) or 'none left'})", transient=True
            )
        for gone in sorted(planned - set(taken.vdis)):
            self._warn(f"disk {gone} was detached before the snapshot and is not in this restore point")
        return replace(again, disks=disks, refusal="", taking=plan.taking)

    def drop(self, taken: Taken) -> None:
        """Remove what was taken: nothing will ever continue from it, because no remote can have it, or because it was
        for a full backup. The next run removes what stays."""
        drop_taken(self._context.session, taken)

    def moment(self) -> datetime:
        """Now, in whole seconds, and later than every restore point there is: names must grow."""
        clock = self._context.world.clock
        newest_s = self._prepared.newest_ms() // 1000
        behind_s = newest_s + 1 - clock.now_s()
        if behind_s > CLOCK_BEHIND_MAX_S:
            message = f"its newest restore point is of {utc(newest_s):%Y-%m-%d %H:%M:%S} UTC, which is in the future"
            raise VmRefused(message, hint="check the clocks of this machine and of the one that wrote it")
        if behind_s > 0:
            self._cancel.sleep(clock, behind_s)
        return utc(int(clock.now_s()))
