"""VMs of a run that somebody else backs up: the seam between the conductor and workers elsewhere.

The conductor chooses VMs, gives them their turns and makes one report, whoever does the work. A :class:`HandOut`
takes one attempt for one VM; what happens there comes into the run's journal as it would from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.context import RunContext
    from xobackup.engine.fulls import Counting
    from xobackup.engine.health.of_job import JobChecks
    from xobackup.engine.health.request import CheckResult
    from xobackup.engine.job import Job
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.mirror.one import VmCopied
    from xobackup.engine.placing.given import Elsewhere
    from xobackup.engine.report import GroupReport, PoolReport, VmReport
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World


class Handing(Protocol):
    """One run's."""

    def attempt(self, vm: VmView, turn: Turn) -> VmReport | None:
        """One attempt by a worker, to its end. ``None``: nobody else can, it is to be done here. Never raises for
        what happens to the VM."""
        ...

    def group(
        self, vms: Sequence[VmView], turns: Mapping[str, Turn]
    ) -> tuple[Sequence[VmReport], GroupReport | None] | None:
        """A consistent group by one worker, to its end: every verdict, and the group if its snapshots were taken.
        ``None``: nobody else can."""
        ...

    def pool(self, context: RunContext) -> PoolReport | None:
        """The database of a pool, with all attempts. ``None``: nobody else can."""
        ...

    def checks(self, checks: JobChecks, reports: Collection[VmReport]) -> tuple[list[CheckResult], list[str]] | None:
        """Health checks of what was published, as :func:`~xobackup.engine.health.of_job.run_checks` does them.
        ``None``: nobody else can."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class MirrorHanding(Protocol):
    """One mirror's run."""

    def vms(self) -> list[tuple[str, str]]:
        """Uuids and names of the source's VMs that are meant, asked of a worker that reaches it. Raises
        :class:`~xobackup.engine.errors.EngineError`."""
        ...

    def copy(self, target: str, vm: str, name: str) -> VmCopied | None:
        """One VM's restore points to one target, by a worker, to their end. ``None``: nobody else can, it is to be
        done here. Never raises for what happens to the VM."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class HandOut(Protocol):
    """Gives VMs to workers."""

    def reached(self, name: str) -> bool:
        """Whether a remote or target is reached from here: others are left to workers."""
        ...

    def begin(self, job: Job, world: World, run_id: str) -> Handing:
        """A run begins. ``world``: with its journal."""
        ...

    def counting(self, run_id: str) -> Counting | None:
        """Where VMs of a run are counted whose chains begin again unasked."""
        ...

    def given(self, run_id: str, world: World) -> Elsewhere | None:
        """What VMs of a run were given of several remotes."""
        ...

    def last_words(self, run_id: str) -> AbstractContextManager[Sequence[Mapping[str, Any]]]:
        """What workers said of a run after whoever conducted it had died: events as records. It is forgotten when the
        block ends well."""
        ...

    def told(self, job: Job) -> tuple[str, ...]:
        """Who would do the VMs of the job, as sentences for its plan."""
        ...

    def begin_mirror(self, job: MirrorJob, world: World, run_id: str) -> MirrorHanding:
        """A mirror's run begins. ``world``: with its journal."""
        ...

    def told_mirror(self, job: MirrorJob) -> tuple[str, ...]:
        """Who would copy, through whom, as sentences for its plan."""
        ...
