"""Which VM is next: pure.

First come, first served; those that are tried again come after all that have not had a turn; those that wait (for
their pause, for their chains) hold no slot, and are passed by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Of a VM in the queue."""

    READY = "ready"
    PAUSED = "paused"
    """Ready at ``due_s``."""
    CHAINS = "chains"
    """Its chains are looked at, at ``due_s`` again."""
    RUNNING = "running"
    DONE = "done"


@dataclass(slots=True, kw_only=True)
class Place:
    """One VM's place; ``number`` is its turn, larger for who went to the end of the queue."""

    key: int
    number: int
    state: State = State.READY
    attempt: int = 1
    due_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do now: start these, look at the chains of those, and wake at ``wake_s`` (``None``: when one ends)."""

    start: tuple[int, ...] = ()
    look: tuple[int, ...] = ()
    wake_s: float | None = None


def next_step(places: Sequence[Place], *, now_s: float, slots: int) -> Step:
    """Decide; ``slots``: VMs that may run at a time."""
    running = sum(place.state is State.RUNNING for place in places)
    ripe = [
        place
        for place in places
        if place.state is State.READY or (place.state is State.PAUSED and place.due_s <= now_s)
    ]
    ripe.sort(key=lambda place: (place.attempt, place.number))
    start = tuple(place.key for place in ripe[: max(0, slots - running)])
    look = tuple(place.key for place in places if place.state is State.CHAINS and place.due_s <= now_s)
    later = [
        place.due_s
        for place in places
        if place.state in (State.PAUSED, State.CHAINS) and place.due_s > now_s and place.key not in start
    ]
    return Step(start=start, look=look, wake_s=min(later, default=None))
