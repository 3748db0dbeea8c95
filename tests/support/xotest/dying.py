"""A process that dies between two calls to the pool, played in this one.

From the planned moment on every call raises :class:`~remotes.faults.PowerCut`, so that nothing is tidied up, and the
marks on this machine are put back as the dead process would have left them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from remotes.faults import PowerCut
from xobackup.engine.job import Job
from xobackup.engine.run import run_job
from xobackup.engine.world import World
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.session import Session
from xotest.lab import Lab


class Death:
    """When, and whether it has come. ``at``: number of the call, counted from the first one that begins with
    ``since``; ``after``: the pool gets it, we no answer."""

    def __init__(self, at: int, *, since: str = "", after: bool = False) -> None:
        self.at = at
        self.since = since
        self.after = after
        self.calls: list[str] = []
        self.dead = False
        self._lock = threading.Lock()

    def before_call(self, what: str) -> bool:
        """Returns whether the process dies when this call is answered."""
        with self._lock:
            if self.calls or what.startswith(self.since):
                self.calls.append(what)
            now = len(self.calls) == self.at
            if self.dead or (now and not self.after):
                self.dead = True
                raise PowerCut
            return now

    def die(self) -> None:
        self.dead = True
        raise PowerCut


class DyingSession(Session):
    """A session of a process that is going to die."""

    death: Death

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        dies = self.death.before_call(" ".join([method, *(str(arg) for arg in args)]))
        answer = super().call(method, *args, **options)
        if dies:
            self.death.die()
        return answer

    def call_once(self, method: str, *args: Any, **options: Any) -> Any:
        dies = self.death.before_call(method)
        answer = super().call_once(method, *args, **options)
        if dies:
            self.death.die()
        return answer


def run_and_die(lab: Lab, death: Death, **fields: Any) -> bool:
    """A run of the lab's job; returns whether it died."""
    active = lab.directory / "state" / "active"

    with kept(active, death):
        try:
            lab.clock.advance(3600)
            run(lab.job(**fields), replace(lab.world(), connect=lambda address: dying_session(lab, address, death)))
        except PowerCut:
            assert death.dead
    return death.dead


def dying_session(lab: Lab, address: PoolAddress, death: Death) -> Session:
    """Logged in, and counting from now on."""
    session = DyingSession.connect(address, clock=lab.clock)
    session.death = death
    return session


def run(job: Job, world: World) -> None:
    run_job(job, world)


@contextmanager
def kept(directory: Path, death: Death) -> Iterator[None]:
    """The marks as they are when death comes, back again afterwards."""
    marks: dict[Path, bytes] = {}
    die, before = death.die, death.before_call

    def note() -> None:
        if not marks:
            marks.update({path: path.read_bytes() for path in directory.glob("*.active.json")})

    def noted_die() -> None:
        note()
        die()

    def noted_before(what: str) -> bool:
        try:
            return before(what)
        except PowerCut:
            note()
            raise

    death.die, death.before_call = noted_die, noted_before  # type: ignore[method-assign]
    yield
    if death.dead:
        for path, content in marks.items():
            path.write_bytes(content)
