"""Where what must be remembered of schedules is kept: on this machine (:mod:`.state`), or in a database that several
control nodes share (:mod:`.shared`). One set of contract tests: tests/service/test_store.py.

A store MUST

1. let ``begin`` happen once for one time: who does not find ``settled`` as he saw it begins nothing;
2. let one node at most have the run of a schedule, and by ``end`` note its end and what follows in one step;
3. forget nothing that was not ended: a run whose node is gone is found by ``look`` until somebody takes it over;
4. give everybody the same time, by which what is due is decided.

Whatever cannot be read or written raises :class:`~xobackup.engine.errors.EngineError` or ``OSError``, and nothing has
happened; or nobody can know, and the next ``look`` says what has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A run that was ordered: the time it stands for, and when that was. ``node``: where; empty: on this one."""

    nominal: datetime
    began: datetime
    node: str = ""
    host: str = ""
    seen: datetime | None = None
    """When its node was heard of last; ``None``: it left in good order, or is this one."""
    gone: bool = False
    """Whether its node is: somebody else may begin it again."""
    again: bool = False
    """Somebody asked for one more run after it."""
    run_id: str = ""
    """The newest run of a job that was begun for it."""

    @property
    def here(self) -> bool:
        return not self.node


@dataclass(frozen=True, slots=True)
class State:
    """``settled``: up to which nominal time each schedule is done with. ``running``: what waits or goes on."""

    settled: dict[str, datetime] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All of it at one instant, ``now``, by the store's clock."""

    now: datetime
    state: State
    paused: Mapping[str, str]


class Begun(StrEnum):
    """What became of an order."""

    HERE = "here"
    ELSEWHERE = "elsewhere"
    """Another node has its run; that one does one more when it was asked for."""
    LATE = "late"
    """Another node came first."""


class ScheduleStore(Protocol):
    """See the module's head."""

    problem: str
    """Why what was remembered could not be read; or what is wrong with this node among the others."""
    is_shared: bool

    def now(self) -> datetime:
        """By the store's clock, as far as it is known; never raises."""
        ...

    def look(self) -> Look: ...

    def begin(
        self, schedule: str, nominal: datetime, *, since: datetime | None = None, instead_of: str | None = None
    ) -> Begun:
        """Its run is ordered here, and it is settled up to ``nominal``: one write, so that a crash finds both or
        neither. ``since``: only if it is still settled up to that. ``instead_of``: only if its run is still that
        node's (``""``: this one's), which is gone. Without these a run elsewhere is asked to be followed by one more.
        """
        ...

    def end(self, schedule: str, *, goes_on: bool, then: Sequence[str], nominal: datetime) -> dict[str, Begun]:
        """Its run has ended; ``goes_on``: another one of it follows here at once. ``then``: what is ordered after it,
        for the same time, in one write. Returns what became of these; nothing when the run was not ours any more."""
        ...

    def heard(self, schedule: str) -> None:
        """One more run that somebody asked for elsewhere is ordered."""
        ...

    def settle(self, schedule: str, nominal: datetime, *, since: datetime | None) -> bool:
        """Nothing up to ``nominal`` is started any more; only if it is still settled up to ``since``."""
        ...

    def meet(self, plan: Mapping[str, str], timed: Set[str]) -> None:
        """These are followed here from now on (with what tells two definitions apart); new ``timed`` ones are settled
        up to now; what nobody follows is forgotten."""
        ...

    def note_run(self, schedule: str, run_id: str) -> None:
        """A run of one of its jobs begins. Never raises: it is told to people only."""
        ...

    def watch(self, when_lost: Callable[[], None]) -> None:
        """Say from now on that this node lives. ``when_lost``: called, in any thread, as soon as :meth:`lost` says
        so."""
        ...

    def lost(self) -> str:
        """Why the runs of this node may have been given to others by now; ``""``: they have not."""
        ...

    def paused(self) -> Mapping[str, str]:
        """Reasons, by schedule. What cannot be read is an error: a pause must not end by accident."""
        ...

    def change_paused(self, names: Mapping[str, str | None]) -> Mapping[str, str]:
        """Pause (a reason) or resume (``None``) schedules; returns what is paused then."""
        ...

    def close(self, *, in_order: bool = True) -> None:
        """``in_order``: nothing goes on any more, others may have what was not ended at once."""
        ...
