"""One attempt to back up one VM, and the verdict: the boundary that no error crosses.

The stages may be taken at different times and by different threads, one after the other. After the first that fails
the others are not begun. Whatever happens, an attempt is ended once, which lets go of all that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import TracebackType

from xobackup.engine import events
from xobackup.engine.backup import VmBackup
from xobackup.engine.context import RunContext
from xobackup.engine.errors import Cancelled, ChainsUnhealthy, EngineError, Outcome, RunLocked, VmSkipped
from xobackup.engine.hooks.of_vm import hooks_after_vm
from xobackup.engine.report import Tried, VmReport
from xobackup.engine.taking.taken import Taken
from xobackup.engine.turns.retry import may_pass, pause_s
from xobackup.engine.view import VmView


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Which attempt it is. ``last``: there will be no other. ``refusal``: why it must not even begin."""

    number: int = 1
    last: bool = True
    refusal: EngineError | None = None
    patient: bool = False
    """A VM whose chains are unhealthy is not refused: it will have another turn."""
    before: tuple[Tried, ...] = ()
    """The attempts that failed before this one."""


class Attempt:
    """See the module's head. Use as a context manager, then ask for the :meth:`report`."""

    def __init__(
        self,
        context: RunContext,
        vm: VmView,
        turn: Turn | None = None,
        *,
        group: str = "",
        taken: Taken | None = None,
    ) -> None:
        """``group``: the consistent group it belongs to; ``taken``: its snapshot, kept from an attempt before."""
        self.context = context
        self.group = group
        self._world = context.world
        self._begun = self._ended = False
        self.turn = turn or Turn()
        self._retry_pause_s = context.job.settings.retry_pause_s
        self._began_s = self._world.clock.monotonic_s()
        self._since_s = self._world.clock.now_s()
        self._error: Exception | None = None
        self.vm = vm
        self.backup = VmBackup(context, vm, attempt=self.turn.number, group=group, taken=taken)

    def __enter__(self) -> Attempt:
        self.take(self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Let go of everything. Calling it again does nothing."""
        if self._ended:
            return
        self._ended = True
        first, self._error = self._error, None
        self.take(lambda: self.backup.__exit__(None if first is None else type(first), first, None))
        self._error = first or self._error

    def _begin(self) -> None:
        self._world.cancel.check()
        if self.turn.refusal is not None:
            raise self.turn.refusal
        self.backup.__enter__()
        self._begun = True

    @property
    def going(self) -> bool:
        """Nothing has failed so far."""
        return self._error is None

    @property
    def error(self) -> Exception | None:
        """What has."""
        return self._error

    @property
    def again(self) -> bool:
        """It has failed in a way that may pass, nothing is published, and there will be another attempt."""
        error = self._error
        if error is None or self.turn.last or self.backup.done.points:
            return False
        return may_pass(error) or self.backup.another_remote(error)

    def take(self, *stages: Callable[[], object]) -> bool:
        """Take these stages, unless one has failed before; returns :attr:`going`."""
        try:
            for stage in stages if self.going else ():
                stage()
        except Exception as error:  # noqa: BLE001 - the per-VM boundary: one VM's bug must not cost the others' backups
            self._error = error
        return self.going

    def give_up(self, error: Exception) -> None:
        """End it for a reason that lies outside of this VM; nothing more is done."""
        self._error = error

    def report(self) -> VmReport:
        """The verdict; journals the final word, and a failure in any case."""
        error, done = self._error, self.backup.done
        outcome = Outcome.FAILED if error is not None or done.errors else Outcome.OK
        if isinstance(error, VmSkipped):
            outcome = Outcome.SKIPPED
        turn, again = self.turn, self.again
        deferred = isinstance(error, ChainsUnhealthy) and turn.patient
        if not again and not deferred:
            outcome, error = self._after(outcome, error)
        duration_s = self._world.clock.monotonic_s() - self._began_s
        report = _report(self.vm, self.backup, outcome, error, attempt=turn.number, duration_s=duration_s)
        if isinstance(error, ChainsUnhealthy) and turn.patient:
            return replace(report, deferred=True, chains=error.chains)
        if outcome is Outcome.FAILED:
            report = replace(report, tried=(*turn.before, self._tried(report, error)))
        else:
            report = replace(report, tried=turn.before)
        if outcome is Outcome.FAILED and error is not None:
            self._world.journal.write(
                events.Failed(
                    vm=self.vm.uuid,
                    error=str(error),
                    error_class=type(error).__name__,
                    hint=report.hint,
                    attempt=turn.number,
                    will_retry=again,
                    retry_in_s=pause_s(turn.number, self._retry_pause_s) if again else 0.0,
                )
            )
        if not again:
            self._world.journal.write(
                events.VmEnded(
                    vm=self.vm.uuid,
                    vm_name=self.vm.name,
                    outcome=outcome.value,
                    attempts=turn.number,
                    duration_s=report.duration_s,
                    read_bytes=report.read_bytes,
                    reason=report.reason,
                    tried=[asdict(one) for one in report.tried],
                )
            )
        return replace(report, retryable=again)

    def _after(self, outcome: Outcome, error: Exception | None) -> tuple[Outcome, Exception | None]:
        """The hooks after a VM; one of them may make it count as failed."""
        if not self._begun and isinstance(error, Cancelled):
            return outcome, error
        done = self.backup.done
        reason = error or (EngineError("; ".join(done.errors)) if done.errors else None)
        failed = hooks_after_vm(self.context, self.backup.facts, outcome, reason, done.hooks, begun=self._begun)
        return (outcome, error) if failed is None else (Outcome.FAILED, error or failed)

    def _tried(self, report: VmReport, error: Exception | None) -> Tried:
        return Tried(
            number=self.turn.number,
            began_s=round(self._since_s, 3),
            duration_s=report.duration_s,
            error=report.reason,
            error_class=type(error).__name__ if error is not None else "",
        )


def attempt_vm(context: RunContext, vm: VmView, turn: Turn) -> VmReport:
    """All of one attempt, for a VM of its own."""
    with Attempt(context, vm, turn) as attempt:
        attempt.take(*attempt.backup.stages)
    return attempt.report()


def _report(
    vm: VmView, backup: VmBackup, outcome: Outcome, error: Exception | None, *, attempt: int, duration_s: float
) -> VmReport:
    done = backup.done
    disks = {(disk.live_uuid, disk.via) for disk in done.transferred.done if disk.live_uuid != done.memory_uuid}
    told = str(error) or type(error).__name__ if error is not None else "; ".join(done.errors)
    return VmReport(
        uuid=vm.uuid,
        name=vm.name,
        pool=vm.pool,
        outcome=outcome,
        reason=told,
        attempts=attempt,
        duration_s=duration_s,
        read_bytes=done.read_bytes,
        points=dict(done.points),
        mode=backup.mode,
        taken=done.taken,
        downtime_s=done.downtime_s,
        snapshots=done.snapshots,
        fulls=len({disk for disk, via in disks if not via.delta}) + done.exported.disks,
        deltas=len({disk for disk, via in disks if via.delta}),
        vias=tuple(sorted({via.value for _, via in disks})),
        ways=tuple(done.transferred.ways),
        merged_blocks=done.merged_blocks,
        warnings=tuple(done.warnings),
        errors=tuple(done.errors) if error is None else (*done.errors, told),
        hint=getattr(error, "hint", "") or "",
        locked=isinstance(error, RunLocked),
        hooks=tuple(done.hooks),
        group=backup.group if done.points else "",
    )
