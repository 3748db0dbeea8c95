"""Who may go on: pure.

A *gate* lets a number through at a time. Whoever needs several gets all of them at once or waits for all of them, so
nobody holds one while waiting for another. First come, first served at every gate: who waits keeps his place at each
of his gates, and nobody who came later takes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """``key`` tells it from others; ``name`` and ``what`` make a sentence: ``SR local: 2 of 2 transfers``."""

    key: str
    name: str
    what: str
    room: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What somebody needs: a number at each of some gates, never more than there is room."""

    number: int
    needs: tuple[tuple[Gate, int], ...]


def needs_of(gates: Iterable[Gate], count: int = 1) -> tuple[tuple[Gate, int], ...]:
    """``count`` at each gate, or all there is where that is less: who is larger than a gate has it for himself."""
    return tuple((gate, min(count, gate.room)) for gate in gates)


def grantable(waiting: Sequence[Ticket], used: Mapping[str, int]) -> list[Ticket]:
    """Those of ``waiting`` (in the order they came) that may go on now; ``used``: how many are through, by key."""
    taken = Counter(used)
    granted: list[Ticket] = []
    for ticket in waiting:
        if all(taken[gate.key] + count <= gate.room for gate, count in ticket.needs):
            granted.append(ticket)
        for gate, count in ticket.needs:
            taken[gate.key] += count
    return granted


def blocked_by(ticket: Ticket, waiting: Sequence[Ticket], used: Mapping[str, int]) -> str:
    """What ``ticket`` waits for, as a sentence without a verb; ``""`` when it need not wait."""
    taken = Counter(used)
    for other in waiting:
        if other.number == ticket.number:
            break
        for gate, count in other.needs:
            taken[gate.key] += count
    full = [gate for gate, count in ticket.needs if taken[gate.key] + count > gate.room]
    return ", ".join(f"{gate.name}: {used.get(gate.key, 0)} of {gate.room} {gate.what}" for gate in full)
