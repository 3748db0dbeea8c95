"""The limits of a process that transfers. With ``[engine] database`` they hold over all workers and control nodes
together; while that database is away, in this process alone, which is said."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xobackup.cli.limits import process_limits

if TYPE_CHECKING:
    from xobackup.cli.output import Output
    from xobackup.config.model import Configuration
    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.engine.world import World
    from xobackup.workers.members import Membership

Tell = Callable[[str], None]


@contextmanager
def shared_limits(configuration: Configuration, tell: Tell) -> Iterator[ProcessLimits]:
    """Those of a command. ``tell`` hears that they hold here alone, and why."""
    limits = process_limits(configuration)
    membership = _joined(configuration, tell)
    if membership is None:
        yield limits
        return
    try:
        membership.hold(limits)
        yield limits
    finally:
        membership.leave()


class ServiceLimits:
    """Those of a service: its configuration may change, and its database may come later. Thread-safe."""

    def __init__(self, configuration: Configuration, tell: Tell) -> None:
        self._configuration = configuration
        self._tell = tell
        self._guard = threading.Lock()
        self._memberships: dict[tuple[str | None, str | None], Membership] = {}
        self.limits = process_limits(configuration)

    def adopt(self, configuration: Configuration) -> None:
        """The configuration is another one from now on."""
        self._configuration, self.limits = configuration, process_limits(configuration)

    def join(self) -> ProcessLimits:
        """Before something begins: the limits, held over all where that is possible now."""
        configuration, limits = self._configuration, self.limits
        section = configuration.engine
        if section.database is None or limits.shares is not None:
            return limits
        with self._guard:
            key = (section.database, section.site)
            if key not in self._memberships:
                membership = _joined(configuration, self._tell)
                if membership is None:
                    return limits
                self._memberships[key] = membership
            if limits.shares is None:
                self._memberships[key].hold(limits)
        return limits

    def close(self) -> None:
        """The service ends."""
        with self._guard:
            for membership in self._memberships.values():
                membership.leave()
            self._memberships.clear()


def _joined(configuration: Configuration, tell: Tell) -> Membership | None:
    from xobackup.cli.engine_store import engine_url
    from xobackup.clock import SystemClock
    from xobackup.engine.run import version
    from xobackup.engine.world import real_world

    if configuration.engine.database is None:
        return None
    url = engine_url(configuration)
    try:
        from xobackup.workers.errors import WorkersError
        from xobackup.workers.members import Member, Membership
        from xobackup.workers.opening import open_board
    except ModuleNotFoundError as error:
        tell(f"limits hold in this process alone: {error.name} is not installed")
        return None
    clock = SystemClock()
    board = None
    try:
        board = open_board(url)
        me = Member(
            id=real_world(configuration.state_directory, clock=clock).new_id(),
            site=configuration.engine.site or "",
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version(),
        )
        membership = Membership(board, me, clock, tell=tell)
        membership.join()
    except WorkersError as error:
        if board is not None:
            board.close()
        tell(f"limits hold in this process alone: {error}")
        return None
    return membership


@contextmanager
def limited_world(output: Output, configuration: Configuration, *places: str) -> Iterator[World]:
    """The real world with this terminal as its face, within the limits that hold over all, and those of the links to
    these places (``pool:NAME``, remotes, targets)."""
    from dataclasses import replace

    from xobackup.cli.live import world_of

    def tell(told: str) -> None:
        output.note(told, style="yellow")

    with (
        shared_limits(configuration, tell) as limits,
        world_of(output, configuration.state_directory, limits=limits) as world,
    ):
        yield replace(world, throttle=limits.across(world.throttle, places, world.clock))
