"""What is frozen before a snapshot is thawed after it: whatever happens, once, and even after a crash.

Order: a small file says that the VM is being frozen; the operator's hooks; the guest's own; the snapshot; the
guest's own; the operator's hooks; the file goes. A file whose run is dead means a guest that may be frozen still: the
next run of the job thaws it, with the outcome ``interrupted``. The thawing is not cut off when a run stops, only by
the time that each hook has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.active import Active, interrupted, marked_active
from xobackup.engine.errors import Cancelled, HookFailed
from xobackup.engine.hooks.facts import Facts
from xobackup.engine.hooks.guest import AFTER, BEFORE, call_guest, guest_tag, wanted
from xobackup.engine.hooks.hook import HookResult, When
from xobackup.engine.hooks.running import run_hooks, tell
from xobackup.engine.survey import survey
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.context import RunContext
    from xobackup.engine.job import Job
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World

FROZEN = "frozen"
GUEST_HOOK = "the guest's own hook"


class Freezing:
    """One attempt's, for one VM."""

    def __init__(
        self,
        context: RunContext,
        facts: Facts,
        *,
        cancel: CancelToken,
        warn: Callable[[str], None],
        results: list[HookResult],
    ) -> None:
        self._context = context
        self._world = context.world
        self._facts = facts
        self._cancel = cancel
        self._warn = warn
        self._results = results
        self._vm: VmView | None = None
        self._guest_told = False
        self._mark = ExitStack()

    def freeze(self, vm: VmView) -> None:
        """Before the snapshot. Raises :class:`HookFailed` when a hook says no; :meth:`thaw` is due all the same."""
        if not needed(self._context.job, vm):
            return
        self._mark.enter_context(marked_active(frozen_directory(self._world), self._active(vm)))
        self._vm = vm
        job = self._context.job
        run_hooks(
            self._world, job.hooks, When.BEFORE_SNAPSHOT, self._facts, cancel=self._cancel, results=self._results
        )
        if guest_tag(job.guest_hooks, vm):
            self._guest_told = True
            self._tell_guest(vm, BEFORE, self._cancel)
            self._cancel.check()

    def thaw(self, error: BaseException | None = None) -> None:
        """After the snapshot, or in its place when ``error`` kept it from being taken. A second call does nothing."""
        vm, self._vm = self._vm, None
        if vm is None:
            return
        outcome = "ok" if error is None else "cancelled" if isinstance(error, Cancelled) else "failed"
        facts = self._facts.of(outcome=outcome, error=str(error) if error is not None else "")
        with self._mark:
            if self._guest_told:
                self._tell_guest(vm, AFTER, None)
            run_hooks(
                self._world,
                self._context.job.hooks,
                When.AFTER_SNAPSHOT,
                facts,
                cancel=self._cancel,
                results=self._results,
            )

    def _active(self, vm: VmView) -> Active:
        return Active(
            run_id=self._context.run_id,
            job_id=self._context.job.id,
            job=self._context.job.name,
            pool_uuid=self._context.pool_uuid,
            vm_uuid=vm.uuid,
            since_s=self._world.clock.now_s(),
            kind=FROZEN,
        )

    def _tell_guest(self, vm: VmView, path: str, cancel: CancelToken | None) -> None:
        result = told_guest(self._context, vm, path, cancel)
        self._results.append(result)
        if result.error:
            self._warn(f"{GUEST_HOOK} ({path}) {result.error}")


def needed(job: Job, vm: VmView) -> bool:
    """Whether anything is to be done around the snapshot of ``vm``."""
    return bool(guest_tag(job.guest_hooks, vm)) or any(
        hook.on in (When.BEFORE_SNAPSHOT, When.AFTER_SNAPSHOT) for hook in job.hooks
    )


def told_guest(context: RunContext, vm: VmView, path: str, cancel: CancelToken | None) -> HookResult:
    """Tell the guest; how it went is in the journal too. Its failure never stops."""
    world = context.world
    began_s = world.clock.monotonic_s()
    world.journal.write(events.HookBegan(vm=vm.uuid, on=path, hook=GUEST_HOOK))
    tag = wanted(vm.tags) or ""
    error = call_guest(context.session, vm.ref, tag, path, context.job.guest_hooks, cancel=cancel)
    duration_s = world.clock.monotonic_s() - began_s
    result = HookResult(on=path, hook=GUEST_HOOK, vm=vm.uuid, duration_s=duration_s, error=error)
    tell(world, result)
    return result


def thaw_interrupted(job: Job, world: World, contexts: Iterable[RunContext]) -> None:
    """Thaw what dead runs of this job on this machine may have left frozen. A failure is a warning."""
    pools = {context.pool_uuid: context for context in contexts}
    with interrupted(frozen_directory(world)) as found:
        for path, active in found:
            if active.job_id == job.id:
                _thaw_leftover(job, world, active, pools.get(active.pool_uuid))
                path.unlink(missing_ok=True)


def _thaw_leftover(job: Job, world: World, active: Active, context: RunContext | None) -> None:
    reason = "the run that froze it was interrupted"
    world.journal.write(events.LeftoverCleaned(vm=active.vm_uuid, what="a frozen guest", reason=reason))
    vm: VmView | None = None
    if context is not None:
        with contextlib.suppress(XapiError):  # hooks of the operator's need no pool
            vm = survey(context.session, context.pool).vm_view(active.vm_uuid)
        if vm is not None and guest_tag(job.guest_hooks, vm):
            told_guest(context, vm, AFTER, None)
    facts = Facts(
        job=job.name,
        job_id=job.id,
        run=active.run_id,
        pool=context.pool if context is not None else "",
        vm_uuid=active.vm_uuid,
        vm_name=vm.name if vm is not None else "",
        outcome="interrupted",
    )
    try:
        run_hooks(world, job.hooks, When.AFTER_SNAPSHOT, facts, cancel=world.cancel, results=[])
    except HookFailed as error:
        world.journal.write(events.Warned(vm=active.vm_uuid, message=str(error)))


def frozen_directory(world: World) -> Path:
    """Where the files are."""
    return world.state_directory / FROZEN
