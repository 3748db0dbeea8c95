"""The control node's side of mirrors: VMs of a mirror's run are put on the board, each with the target it goes to.

The key of such a task is the VM's, as that of its backup: at most one of both is done at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.engine import events
from xobackup.engine.errors import EngineError
from xobackup.engine.mirror.one import VmCopied
from xobackup.workers.errands import Errands, Source, answered
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.kinds import MIRROR, MIRROR_LIST, queue_of
from xobackup.workers.mirror_placing import MirrorNeed, choose_mirror
from xobackup.workers.peers import living_peers
from xobackup.workers.placing import Choice
from xobackup.workers.records import About, Task
from xobackup.workers.wire import ListOrder, MirrorOrder, order_data, read_copied

if TYPE_CHECKING:
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPlaces:
    """Where mirrors can be done from: where the board is had from, and sites of remotes."""

    source: Source
    sites: Mapping[str, tuple[str, ...]]
    here: str
    wait_s: float
    fingerprint: Callable[[str], str]

    def need(self, source: str, target: str = "") -> MirrorNeed:
        """To copy from one to the other; without a target: to list."""
        return MirrorNeed(
            source=source,
            source_sites=self.sites.get(source, ()),
            target=target,
            target_sites=self.sites.get(target, ()) if target else (),
        )

    def alone(self, need: MirrorNeed) -> Choice:
        """Who does it when there are no workers."""
        return choose_mirror(need, [], [], here=self.here, loads={})

    def choice(self, need: MirrorNeed) -> Choice:
        """Who would do it now. Raises ``BoardUnavailable``."""
        board = self.source.board
        if board is None:
            return self.alone(need)
        workers, peers = board.workers(), living_peers(board)
        return choose_mirror(need, workers, peers, here=self.here, loads=board.waiting())

    def told(self, job: MirrorJob) -> tuple[str, ...]:
        try:
            choices = {target.name: self.choice(self.need(job.source.name, target.name)) for target in job.targets}
        except BoardUnavailable as error:
            return (f"workers: {error}",)
        if self.source.away:
            return (f"workers: {self.source.away}",)
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
        self._errands = Errands(places.source, world, run=run_id, job=job.name)

    def close(self) -> None:
        self._errands.close()

    def vms(self) -> list[tuple[str, str]]:
        order = ListOrder(run=self._run, job=self._job.name, source=self._job.source.name, vms=self._job.vms)
        about = About(name=f"VMs of {self._job.source.name}", pool="")
        try:
            result = self._done(
                about, "", lambda _: order_data(order), key=f"list:{self._run}", kind=MIRROR_LIST, note=lambda _: None
            )
            if result is None:
                raise WorkersError("it cannot be reached from here")
            return [(str(uuid), str(name)) for uuid, name in answered(result, "vms")]
        except WorkersError as error:
            raise EngineError(str(error), hint=error.hint) from error

    def copy(self, target: str, vm: str, name: str) -> VmCopied | None:
        meter = self._world.progress.meter(name or vm, stage="waiting")
        try:
            result = self._done(
                About(name=name, pool="", uuid=vm),
                target,
                lambda choice: order_data(self._order(target, vm, name, choice)),
                key=vm,
                kind=MIRROR,
                note=meter.note,
            )
            return None if result is None else read_copied(answered(result, "copied"))
        except WorkersError as error:
            told = f"{target}: {error}"
            kind = WorkersError.__name__
            failed = events.Failed(vm=vm, remote=target, error=told, error_class=kind, hint=error.hint)
            self._errands.write(failed)
            return VmCopied(errors=(told,))
        finally:
            self._world.progress.drop(meter)

    def _done(
        self,
        about: About,
        target: str,
        order: Callable[[Choice], Mapping[str, Any]],
        *,
        key: str,
        kind: str,
        note: Callable[[str], None],
    ) -> Mapping[str, Any] | None:
        """By whoever can."""
        need = self._places.need(self._job.source.name, target)
        alone = self._places.alone(need)

        def tasks(choice: Choice) -> list[Task]:
            queue = queue_of(choice.queue or "", kind)
            return [Task(id=self._world.new_id(), run=self._run, key=key, queue=queue, order=order(choice))]

        return self._errands.done(
            about,
            choose=lambda: self._errands.chosen(lambda: self._places.choice(need), alone),
            tasks=tasks,
            wait_s=self._places.wait_s,
            note=note,
        )

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
