"""Everything a verb takes from outside: clock, connections, journal, the switch. A simulation can own all of it."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xobackup.clock import Clock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.journal import MemoryJournal, Sink
from xobackup.engine.limits.process import ProcessLimits
from xobackup.engine.progress import Progress
from xobackup.engine.storage import open_repository
from xobackup.engine.throttle import Throttle

if TYPE_CHECKING:
    from xobackup.engine.fulls import Counting
    from xobackup.engine.handing import HandOut
    from xobackup.engine.job import Job, RemoteTarget
    from xobackup.engine.placing.given import Elsewhere
    from xobackup.repository.repository import Repository
    from xobackup.xapi.address import PoolAddress
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """See the module's head; make one with :func:`real_world`, or by hand in tests."""

    clock: Clock
    state_directory: Path
    journal: Sink
    progress: Progress
    cancel: CancelToken
    throttle: Throttle
    connect: Callable[[PoolAddress], Session]
    open_repository: Callable[[RemoteTarget], Repository]
    new_id: Callable[[], str]
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    """Shared by everything that this process does."""
    all_jobs: Sequence[Job] = ()
    """Of the configuration: what one of them selects has somebody who protects it. Empty: nobody says."""
    hand_out: HandOut | None = None
    """Workers elsewhere, where there are any."""
    reason: str = ""
    """Why a run begins, when that is not obvious: for its journal."""
    schedule: str = ""
    """Whose settings a run has, for its journal; ``""``: the job's own."""
    count_full: Counting | None = None
    """In a worker: where VMs of the run are counted whose chains begin again unasked."""
    given_elsewhere: Elsewhere | None = None
    """In a worker: what VMs of the run were given that others do."""

    @property
    def journal_directory(self) -> Path:
        return self.state_directory / "journal"

    @property
    def active_directory(self) -> Path:
        return self.state_directory / "active"


def real_world(
    state_directory: Path,
    *,
    clock: Clock,
    journal: Sink | None = None,
    cancel: CancelToken | None = None,
    progress: Progress | None = None,
    limits: ProcessLimits | None = None,
    all_jobs: Sequence[Job] = (),
    hand_out: HandOut | None = None,
    reason: str = "",
) -> World:
    """The world as it is: sessions by TLS, repositories by URL."""
    from xobackup.xapi.session import Session

    shared = limits or ProcessLimits()
    return World(
        clock=clock,
        state_directory=state_directory,
        journal=journal or MemoryJournal(),
        progress=progress or Progress(clock),
        cancel=cancel or CancelToken(),
        throttle=Throttle(None, clock, above=shared.total(clock)),
        limits=shared,
        all_jobs=all_jobs,
        hand_out=hand_out,
        reason=reason,
        connect=lambda address: Session.connect(address, clock=clock),
        open_repository=lambda target: open_repository(target, clock=clock),
        new_id=lambda: str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
    )
