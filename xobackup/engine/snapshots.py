"""The part of one VM's backup that differs when a job has no remotes: its snapshot is all there is, and it stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.taking.marks import write_marks

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.plan import VmPlan
    from xobackup.engine.taking.taken import Taken
    from xobackup.engine.target import Published, Target
    from xobackup.engine.view import VmView
    from xobackup.xapi.session import Session


class SnapshotsOnly:
    """One attempt's."""

    def __init__(self, session: Session, cancel: CancelToken) -> None:
        self._session = session
        self._cancel = cancel
        self.announced = False
        """The snapshot is marked as one that stays."""

    def export(self, plan: VmPlan, taken: Taken, vm: VmView) -> None:
        """There is nowhere to export to."""

    def publish(
        self, taken: Taken, live_record: dict[str, Any], published: Callable[[Target, Published], None]
    ) -> None:
        """Let the snapshot stay."""
        self._cancel.check()
        self.announced = True
        write_marks(self._session, "VM", taken.ref, {keys.KEPT: "true"})
