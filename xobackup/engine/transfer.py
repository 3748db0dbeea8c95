"""The disks of a VM on their way from its snapshot into the remotes: which at a time, and who is still with us.

A disk counts only when what was read was whole and a remote's disk is durable
(:mod:`xobackup.engine.disk_transfer`). A remote that fails drops out of this VM's backup; the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from xobackup.engine.disk_transfer import DiskTransfer, Shared, Work
from xobackup.engine.errors import AllSinksFailed, Cancelled
from xobackup.engine.limits.turnstile import srs_of
from xobackup.engine.plan import DiskPlan
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.transferred import Transferred

if TYPE_CHECKING:
    from xobackup.engine.taking.taken import Taken


class Transfer:
    """Moves one VM's disks; make one per attempt and :meth:`run` it."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def run(self, plans: Sequence[DiskPlan], taken: Taken, *, disks_max: int, buffers: int) -> Transferred:
        """All disks, ``disks_max`` at a time. Raises the first error that concerns more than single remotes."""
        works = [
            Work(
                plan=plan,
                route=route,
                vdi_ref=taken.exported[plan.disk.vdi_uuid][0],
                vdi=taken.exported[plan.disk.vdi_uuid][1],
            )
            for plan in plans
            for route in plan.routes
        ]
        with ThreadPoolExecutor(max_workers=max(1, min(disks_max, len(works))), thread_name_prefix="disk") as threads:
            futures = [threads.submit(self._one, work, buffers) for work in works]
            done, pending = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                self._shared.cancel.cancel("another disk of this VM failed")
                for future in pending:
                    future.cancel()
        failed = [error for future in futures if not future.cancelled() and (error := future.exception())]
        if failed:
            self._shared.outcome.discard(list(self._shared.outcome.writers))
            raise next((error for error in failed if not isinstance(error, Cancelled)), failed[0])
        self._shared.outcome.discard(self._shared.outcome.dropped)
        return self._shared.outcome

    def _one(self, work: Work, buffers: int) -> None:
        meter = self._shared.world.progress.meter(work.name, stage="waiting")
        try:
            with self._shared.turnstile.transfer(srs_of([work.plan.disk.sr]), self._shared.cancel, meter):
                DiskTransfer(self._shared, work, buffers=buffers, meter=meter).run()
        except AllSinksFailed as error:
            for remote, cause in error.failures.items():
                if not isinstance(cause, SINK_ERRORS):
                    raise cause from error
                self._shared.drop(remote, cause)
            if set(self._shared.targets) <= set(self._shared.outcome.dropped):
                raise  # nobody is left, on any route
        finally:
            self._shared.world.progress.drop(meter)
