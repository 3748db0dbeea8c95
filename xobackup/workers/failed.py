"""What an attempt says that never was one: no worker came, or what it said cannot be understood."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.report import Tried, VmReport
from xobackup.engine.turns.retry import pause_s
from xobackup.workers.errors import WorkersError

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.job import Job
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World


def failed_report(
    world: World, job: Job, vm: VmView, turn: Turn, error: WorkersError, *, began_at: float, duration_s: float
) -> VmReport:
    """Its report, after it is in the journal. ``began_at``: Unix time."""
    reason, hint = str(error), error.hint
    again = not turn.last
    tried = Tried(
        number=turn.number,
        began_s=round(began_at, 3),
        duration_s=duration_s,
        error=reason,
        error_class=WorkersError.__name__,
    )
    every = (*turn.before, tried)
    world.journal.write(
        events.Failed(
            vm=vm.uuid,
            error=reason,
            error_class=WorkersError.__name__,
            hint=hint,
            attempt=turn.number,
            will_retry=again,
            retry_in_s=pause_s(turn.number, job.settings.retry_pause_s) if again else 0.0,
        )
    )
    if not again:
        ended = events.VmEnded(
            vm=vm.uuid,
            vm_name=vm.name,
            outcome=Outcome.FAILED.value,
            attempts=turn.number,
            duration_s=duration_s,
            read_bytes=0,
            reason=reason,
            tried=[asdict(one) for one in every],
        )
        world.journal.write(ended)
    return VmReport(
        uuid=vm.uuid,
        name=vm.name,
        pool=vm.pool,
        outcome=Outcome.FAILED,
        reason=reason,
        attempts=turn.number,
        duration_s=duration_s,
        errors=(reason,),
        hint=hint,
        retryable=again,
        tried=every,
    )
