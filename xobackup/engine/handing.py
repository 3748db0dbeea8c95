"""VMs of a run that somebody else backs up: the seam between the conductor and workers elsewhere.

The conductor chooses VMs, gives them their turns and makes one report, whoever does the work. A :class:`HandOut`
takes one attempt for one VM; what happens there comes into the run's journal as it would from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.job import Job
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.mirror.one import VmCopied
    from xobackup.engine.report import VmReport
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World


class Handing(Protocol):
    """One run's."""

    def attempt(self, vm: VmView, turn: Turn) -> VmReport | None:
        """One attempt by a worker, to its end. ``None``: nobody else can, it is to be done here. Never raises for
        what happens to the VM."""
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

    def told(self, job: Job) -> tuple[str, ...]:
        """Who would do the VMs of the job, as sentences for its plan."""
        ...

    def begin_mirror(self, job: MirrorJob, world: World, run_id: str) -> MirrorHanding:
        """A mirror's run begins. ``world``: with its journal."""
        ...

    def told_mirror(self, job: MirrorJob) -> tuple[str, ...]:
        """Who would copy, through whom, as sentences for its plan."""
        ...
