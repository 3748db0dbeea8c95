"""The control node's side: VMs of a run are put on the board, and what workers say comes into the run's journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.report import Tried, VmReport
from xobackup.engine.turns.retry import pause_s
from xobackup.workers.errands import Errands, complaint
from xobackup.workers.errors import BoardUnavailable, WorkersError
from xobackup.workers.mirror_hand_out import BoardMirroring, MirrorPlaces
from xobackup.workers.peers import living_peers
from xobackup.workers.placing import Choice, Need, choose, reaches
from xobackup.workers.wire import Order, order_data, read_report

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.job import Job
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.view import VmView
    from xobackup.engine.world import World
    from xobackup.workers.board import Board


class BoardHandOut:
    """See the module's head, and :class:`xobackup.engine.handing.HandOut`."""

    def __init__(
        self,
        board: Board | None,
        *,
        away: str = "",
        sites: Mapping[str, tuple[str, ...]],
        here: str,
        wait_s: float,
        fingerprint: Callable[[str], str],
    ) -> None:
        """``board``: ``None`` when its database is ``away``, and why. ``sites``: of every pool (``pool:NAME``),
        remote and target; ``here``: this machine's own; ``fingerprint``: of a job in this machine's configuration."""
        self.board = board
        self.away = away
        self.here = here
        self.wait_s = wait_s
        self.fingerprint = fingerprint
        self._sites = sites

    def reached(self, name: str) -> bool:
        return not reaches(self.here, [(name, self._sites.get(base_name(name), ()))])

    def need(self, job: Job, pool: str) -> Need:
        """What a VM of that pool needs."""
        return Need(
            pool=pool,
            pool_sites=self._sites.get(f"pool:{pool}", ()),
            remotes={remote.name: self._sites.get(remote.name, ()) for remote in job.remotes},
            targets={base_name(one.name): self._sites.get(base_name(one.name), ()) for one in job.targets},
            target_pools={base_name(one.name): one.pool.name for one in job.targets},
        )

    def choice(self, job: Job, pool: str) -> Choice:
        """Who would do a VM of that pool now. Raises :class:`BoardUnavailable`."""
        if self.board is None:
            return choose(self.need(job, pool), [], here=self.here, loads={})
        workers, peers, loads = self.board.workers(), living_peers(self.board), self.board.waiting()
        return choose(self.need(job, pool), workers, here=self.here, loads=loads, peers=peers)

    def begin(self, job: Job, world: World, run_id: str) -> BoardHanding:
        return BoardHanding(self, job, world, run_id)

    def begin_mirror(self, job: MirrorJob, world: World, run_id: str) -> BoardMirroring:
        return BoardMirroring(self._mirrors, job, world, run_id)

    def told_mirror(self, job: MirrorJob) -> tuple[str, ...]:
        return self._mirrors.told(job)

    @property
    def _mirrors(self) -> MirrorPlaces:
        return MirrorPlaces(
            board=self.board,
            away=self.away,
            sites=self._sites,
            here=self.here,
            wait_s=self.wait_s,
            fingerprint=self.fingerprint,
        )

    def told(self, job: Job) -> tuple[str, ...]:
        if job.consistent is not None and not job.consistent.tag:
            return ("workers: a consistent group is backed up by this machine",)
        try:
            choices = {pool.name: self.choice(job, pool.name) for pool in job.pools}
        except BoardUnavailable as error:
            return (f"workers: {error}",)
        if self.away:
            return (f"workers: {self.away}",)
        return tuple(f"workers: VMs of {pool}: {_told(choice)}" for pool, choice in choices.items())


def base_name(name: str) -> str:
    """The target of one of its SRs (``dr1:Local storage``)."""
    return name.partition(":")[0]


def _told(choice: Choice) -> str:
    return f"they would wait: {choice.reason}" if choice.waits else choice.reason


class BoardHanding:
    """One run's; see :class:`xobackup.engine.handing.Handing`."""

    def __init__(self, hand_out: BoardHandOut, job: Job, world: World, run_id: str) -> None:
        self._out = hand_out
        self._job = job
        self._world = world
        self._run = run_id
        self._errands = Errands(hand_out.board, hand_out.away, world, run=run_id, job=job.name)

    def close(self) -> None:
        self._errands.close()

    def attempt(self, vm: VmView, turn: Turn) -> VmReport | None:
        began_s = self._world.clock.monotonic_s()
        began_at = self._world.clock.now_s()
        meter = self._world.progress.meter(vm.name or vm.uuid, stage="waiting")
        try:
            return self._attempt(vm, turn, meter.note)
        except WorkersError as error:
            spent_s = self._world.clock.monotonic_s() - began_s
            return self._failed(vm, turn, str(error), error.hint, began_at=began_at, duration_s=spent_s)
        finally:
            self._world.progress.drop(meter)

    def _attempt(self, vm: VmView, turn: Turn, note: Callable[[str], None]) -> VmReport | None:
        result = self._errands.done(
            vm=vm.uuid,
            vm_name=vm.name,
            choose=lambda: self._choice(vm),
            order=lambda choice: order_data(self._order(vm, turn, choice)),
            key=vm.uuid,
            wait_s=self._out.wait_s,
            note=note,
        )
        if result is None:
            return None  # the attempt here says if it was stopped
        if "report" in result:
            return read_report(result["report"])
        raise complaint(result)

    def _choice(self, vm: VmView) -> Choice:
        if not self._errands.away:
            return self._out.choice(self._job, vm.pool)
        need = self._out.need(self._job, vm.pool)
        return choose(need, [], here=self._out.here, loads={})

    def _order(self, vm: VmView, turn: Turn, choice: Choice) -> Order:
        return Order(
            run=self._run,
            job=self._job.name,
            pool=vm.pool,
            vm=vm.uuid,
            vm_name=vm.name,
            full_interval=self._job.settings.full_interval,
            fingerprint=self._out.fingerprint(self._job.name),
            number=turn.number,
            last=turn.last,
            before=turn.before,
            through=dict(choice.through),
        )

    def _failed(
        self, vm: VmView, turn: Turn, reason: str, hint: str, *, began_at: float, duration_s: float
    ) -> VmReport:
        """What an attempt says that never was one."""
        again = not turn.last
        tried = Tried(
            number=turn.number,
            began_s=round(began_at, 3),
            duration_s=duration_s,
            error=reason,
            error_class=WorkersError.__name__,
        )
        every = (*turn.before, tried)
        self._errands.write(
            events.Failed(
                vm=vm.uuid,
                error=reason,
                error_class=WorkersError.__name__,
                hint=hint,
                attempt=turn.number,
                will_retry=again,
                retry_in_s=pause_s(turn.number, self._job.settings.retry_pause_s) if again else 0.0,
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
            self._errands.write(ended)
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
