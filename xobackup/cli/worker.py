"""``xobackup worker``: do VMs that control nodes give out."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.serving.signals import Signals
from xobackup.texts import count_text

if TYPE_CHECKING:
    from types import FrameType

    from xobackup.config.model import Configuration
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.fulls import Counting
    from xobackup.engine.job import Job
    from xobackup.engine.journal import Sink
    from xobackup.engine.limits.process import Shares
    from xobackup.engine.limits.room import Room
    from xobackup.engine.placing.given import Elsewhere
    from xobackup.engine.world import World
    from xobackup.workers.vm_task import VmTask
    from xobackup.workers.worker import Other, WorkerProcess

SLOTS = 4


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


SiteOption = Annotated[
    str | None,
    typer.Option("--site", help="Where this worker is: it does VMs whose pools and remotes name this site.",
                 show_default="[engine] site"),
]  # fmt: skip
SlotsOption = Annotated[int, typer.Option("--slots", min=1, max=256, help="VMs at a time.")]


def worker(
    site: SiteOption = None, slots: SlotsOption = SLOTS, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Do VMs of other machines' runs, by the [engine] database. SIGTERM: end those begun; again: stop them."""
    from xobackup.cli.engine_store import opened_board, reach_of
    from xobackup.cli.errors import Outcome
    from xobackup.cli.logs import JSON, TEXT, Lines
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.config.sites import checked_site
    from xobackup.engine.run import version
    from xobackup.engine.world import real_world
    from xobackup.workers.fulls import counting
    from xobackup.workers.given import BoardGiven
    from xobackup.workers.kinds import KINDS, OTHERS
    from xobackup.workers.records import Worker
    from xobackup.workers.shares import SharedRates
    from xobackup.workers.slots import SharedRoom
    from xobackup.workers.worker import WorkerProcess

    configuration = read_configuration(config)
    try:
        where = checked_site(site) if site is not None else configuration.engine.site or ""
    except ValueError as error:
        raise ConfigError([f"--site: {error}"]) from error
    configuration = configuration.model_copy(
        update={"engine": configuration.engine.model_copy(update={"site": where or None})}
    )
    log = Lines(JSON if as_json else configuration.log.format or TEXT, to_stdout=as_json)
    clock = SystemClock()
    new_id = real_world(configuration.state_directory, clock=clock).new_id
    with opened_board(configuration) as board:
        me = Worker(
            id=new_id(),
            site=where,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version(),
            slots=slots,
            reach={**reach_of(configuration, where), KINDS: list(OTHERS)},
        )
        rates = SharedRates(board, me.id, clock, goes_on=False)
        room = SharedRoom(board, me.id)
        of_vms = task_of(
            configuration,
            room,
            rates,
            counting=lambda run: counting(board, run, goes_on=False),
            given=lambda run, cancel: BoardGiven(board, run, room, cancel),
        )
        process = WorkerProcess(
            board,
            me,
            of_vms.do,
            others=other_tasks(of_vms),
            clock=clock,
            new_id=new_id,
            log=lambda told: log("info", told),
        )
        signals = _Stops(process, lambda told: log("info", told))
        with signals.held():
            reach = (
                ", ".join(name for kind, names in me.reach.items() if kind != KINDS for name in names) or "nothing"
            )
            who = f"worker {me.id}{f' of site {where}' if where else ''}"
            log("info", f"{who} does {count_text(slots, 'VM')} at a time; reaches {reach}")
            rates.start()
            try:
                process.serve(signals.stop.is_set)
            finally:
                rates.close()
        log("info", "drained")
    if signals.twice:
        raise Outcome(Exit.TERMINATED, "stopped VMs that were under way; others take them over")


class _Stops(Signals):
    """The first signal drains, the second one stops what is under way."""

    def __init__(self, process: WorkerProcess, log: Callable[[str], None]) -> None:
        super().__init__()
        self.twice = False
        self._process = process
        self._log = log

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again = self.stop.is_set()
        super()._stop(number, frame)
        if again:
            self.twice = True
            self._process.stop_all(f"stopped by {self.why}")
        else:
            self._log(f"{self.why}: draining, {count_text(self._process.going, 'VM')} under way")


def other_tasks(of_vms: VmTask) -> dict[str, Other]:
    """Tasks that are not one VM, by kind."""
    from xobackup.workers.group_task import GroupTask
    from xobackup.workers.group_wire import group_done_data, read_group_order
    from xobackup.workers.kinds import CHECKS, GROUP, POOL
    from xobackup.workers.other_tasks import OtherTasks
    from xobackup.workers.other_wire import ChecksOrder, PoolOrder
    from xobackup.workers.wire import read_as

    others = OtherTasks(of_vms)
    groups = GroupTask(of_vms)

    def group(order: Mapping[str, Any], run_id: str, sink: Sink, cancel: CancelToken) -> Mapping[str, Any]:
        return {"done": group_done_data(groups.do(read_group_order(order), run_id, sink, cancel))}

    def pool(order: Mapping[str, Any], run_id: str, sink: Sink, cancel: CancelToken) -> Mapping[str, Any]:
        return {"pool": asdict(others.pool(read_as(PoolOrder, order), run_id, sink, cancel))}

    def checks(order: Mapping[str, Any], run_id: str, sink: Sink, cancel: CancelToken) -> Mapping[str, Any]:
        return {"checks": asdict(others.checks(read_as(ChecksOrder, order), sink, cancel))}

    return {GROUP: group, POOL: pool, CHECKS: checks}


def task_of(
    configuration: Configuration,
    room: Room,
    shares: Shares,
    *,
    counting: Callable[[str], Counting],
    given: Callable[[str, CancelToken], Elsewhere],
) -> VmTask:
    """How VMs are done by this configuration. ``room``, ``shares``: where its limits are waited for, and shared;
    ``counting``, ``given``: VMs of a run whose chains begin again unasked, and what each VM was given."""
    from xobackup.cli.engine_store import fingerprint_of
    from xobackup.cli.jobs import job_of
    from xobackup.cli.limits import process_limits
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.engine.world import real_world
    from xobackup.workers.errors import WorkersError
    from xobackup.workers.vm_task import VmTask

    limits = process_limits(configuration)
    limits.hold_over_all(room, shares)

    def job(name: str) -> Job:
        if name not in configuration.job_names:
            known = ", ".join(sorted(configuration.job_names)) or "none"
            raise WorkersError(f"there is no job {name!r} in the worker's configuration (known: {known})")
        try:
            return job_of(configuration, name)
        except ConfigError as error:
            raise WorkersError(str(error), hint=error.hint or "") from error

    def world(sink: Sink, cancel: CancelToken) -> World:
        return real_world(
            configuration.state_directory, clock=SystemClock(), journal=sink, cancel=cancel, limits=limits
        )

    return VmTask(
        job_of=job, fingerprint=fingerprint_of(configuration), world_of=world, counting=counting, given=given
    )
