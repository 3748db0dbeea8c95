"""The control node's side of mirrors: VMs of a mirror's run are put on the board, each with the target it goes to.

The key of such a task is the VM's, as that of its backup: at most one of both is done at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import EngineError
from xobackup.engine.mirror.one import VmCopied
from xobackup.workers.errands import Errands, complaint
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.mirror_placing import MirrorNeed, choose_mirror
from xobackup.workers.peers import living_peers
from xobackup.workers.placing import Choice
from xobackup.workers.wire import ListOrder, MirrorOrder, order_data, read_copied

if TYPE_CHECKING:
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.world import World
    from xobackup.workers.board import Board


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPlaces:
    """Where mirrors can be done from: the board (``None``: it is ``away``, and why), and sites of remotes."""

    board: Board | None
    away: str
    sites: Mapping[str, tuple[str, ...]]
    here: str
    wait_s: float
    fingerprint: Callable[[str], str]

    def choice(self, source: str, target: str = "") -> Choice:
        """Who would copy from one to the other now; without a target: who lists. Raises ``BoardUnavailable``."""
        need = MirrorNeed(
            source=source,
            source_sites=self.sites.get(source, ()),
            target=target,
            target_sites=self.sites.get(target, ()) if target else (),
        )
        if self.board is None or self.away:
            return choose_mirror(need, [], [], here=self.here, loads={})
        workers, peers = self.board.workers(), living_peers(self.board)
        return choose_mirror(need, workers, peers, here=self.here, loads=self.board.waiting())

    def told(self, job: MirrorJob) -> tuple[str, ...]:
        try:
            choices = {target.name: self.choice(job.source.name, target.name) for target in job.targets}
        except BoardUnavailable as error:
            return (f"workers: {error}",)
        if self.away:
            return (f"workers: {self.away}",)
        return tuple(
            f"workers: copies to {target}: {f'they would wait: {one.reason}' if one.waits else one.reason}"
            for target, one in choices.items()
        )


class BoardMirroring:
    """One run's; see :class:`xobackup.engine.handing.MirrorHanding`."""

    def __init__(self, places: MirrorPlaces, job: MirrorJob, world: World, run_id: str) -> None:
        self._places = places
        self._job = job
        self._world = world
        self._run = run_id
        self._errands = Errands(places.board, places.away, world, run=run_id, job=job.name)

    def close(self) -> None:
        self._errands.close()

    def vms(self) -> list[tuple[str, str]]:
        order = ListOrder(run=self._run, job=self._job.name, source=self._job.source.name, vms=self._job.vms)
        try:
            result = self._errands.done(
                vm="",
                vm_name="",
                choose=lambda: self._choice(""),
                order=lambda _: order_data(order),
                key=f"list:{self._run}",
                wait_s=self._places.wait_s,
                note=lambda _told: None,
            )
            if result is None:
                raise WorkersError("it cannot be reached from here")
            if "vms" not in result:
                raise complaint(result)
            return [(str(uuid), str(name)) for uuid, name in result["vms"]]
        except WorkersError as error:
            raise EngineError(str(error), hint=error.hint) from error

    def copy(self, target: str, vm: str, name: str) -> VmCopied | None:
        meter = self._world.progress.meter(name or vm, stage="waiting")
        try:
            result = self._errands.done(
                vm=vm,
                vm_name=name,
                choose=lambda: self._choice(target),
                order=lambda choice: order_data(self._order(target, vm, name, choice)),
                key=vm,
                wait_s=self._places.wait_s,
                note=meter.note,
            )
            if result is None:
                return None
            if "copied" not in result:
                raise complaint(result)
            return read_copied(result["copied"])
        except WorkersError as error:
            told = f"{target}: {error}"
            kind = WorkersError.__name__
            failed = events.Failed(vm=vm, remote=target, error=told, error_class=kind, hint=error.hint)
            self._errands.write(failed)
            return VmCopied(errors=(told,))
        finally:
            self._world.progress.drop(meter)

    def _choice(self, target: str) -> Choice:
        return replace(self._places, away=self._errands.away).choice(self._job.source.name, target)

    def _order(self, target: str, vm: str, name: str, choice: Choice) -> MirrorOrder:
        return MirrorOrder(
            run=self._run,
            job=self._job.name,
            vm=vm,
            vm_name=name,
            source=self._job.source.name,
            target=target,
            fingerprint=self._places.fingerprint(self._job.name),
            through=dict(choice.through),
        )
