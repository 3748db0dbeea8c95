"""What a worker does, by its own configuration: VMs, and tasks of other kinds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xobackup.cli.relaying import Relaying
    from xobackup.config.model import Configuration
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.fulls import Counting
    from xobackup.engine.job import Job
    from xobackup.engine.journal import Sink
    from xobackup.engine.limits.process import Shares
    from xobackup.engine.limits.room import Room
    from xobackup.engine.placing.given import Elsewhere
    from xobackup.engine.world import World
    from xobackup.workers.board import Board
    from xobackup.workers.vm_task import VmTask
    from xobackup.workers.worker import Doing, Other


def tasks_of(
    configuration: Configuration, board: Board, worker: str, shares: Shares, way: Relaying
) -> tuple[Doing, dict[str, Other]]:
    """All of it: how VMs are done, and tasks of other kinds."""
    from xobackup.cli.relaying import mirror_task_of
    from xobackup.workers.fulls import counting
    from xobackup.workers.given import BoardGiven
    from xobackup.workers.slots import SharedRoom

    room = SharedRoom(board, worker)
    worlds = worlds_of(configuration, room, shares)
    of_vms = task_of(
        configuration,
        worlds,
        way,
        counting=lambda run: counting(board, run, goes_on=False),
        given=lambda run, cancel: BoardGiven(board, run, room, cancel),
    )
    return of_vms.do, {**other_tasks(of_vms), **mirror_task_of(configuration, worlds, way).kinds}


def worlds_of(configuration: Configuration, room: Room, shares: Shares) -> Callable[[Sink, CancelToken], World]:
    """The world of each task, all with the limits of this process. ``room``, ``shares``: where these are waited for,
    and shared."""
    from xobackup.cli.limits import process_limits
    from xobackup.clock import SystemClock
    from xobackup.engine.world import real_world

    limits = process_limits(configuration)
    limits.hold_over_all(room, shares)

    def world(sink: Sink, cancel: CancelToken) -> World:
        return real_world(
            configuration.state_directory, clock=SystemClock(), journal=sink, cancel=cancel, limits=limits
        )

    return world


def task_of(
    configuration: Configuration,
    worlds: Callable[[Sink, CancelToken], World],
    way: Relaying,
    *,
    counting: Callable[[str], Counting],
    given: Callable[[str, CancelToken], Elsewhere],
) -> VmTask:
    """How VMs are done. ``way``: through relays; ``counting``, ``given``: VMs of a run whose chains begin again
    unasked, and what each VM was given."""
    from xobackup.cli.engine_store import fingerprint_of
    from xobackup.cli.jobs import job_of
    from xobackup.config.errors import ConfigError
    from xobackup.workers.errors import WorkersError
    from xobackup.workers.vm_task import VmTask

    def job(name: str, led: Collection[str]) -> Job:
        if name not in configuration.job_names:
            known = ", ".join(sorted(configuration.job_names)) or "none"
            raise WorkersError(f"there is no job {name!r} in the worker's configuration (known: {known})")
        try:
            return job_of(configuration, name, led=led)
        except ConfigError as error:
            raise WorkersError(str(error), hint=error.hint or "") from error

    return VmTask(
        job_of=job,
        fingerprint=fingerprint_of(configuration),
        world_of=worlds,
        counting=counting,
        given=given,
        dialer=way.dialer,
    )


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
