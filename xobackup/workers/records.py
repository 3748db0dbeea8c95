"""What is on the board, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEASE_S = 30.0
"""Who was not seen for so long has lost his tasks."""
BEAT_S = 5.0
RUN_KEPT_S = 3600.0
"""What was said of a run whose control node is not heard of waits for it that long."""
DELIVERIES_MAX = 3
"""A VM whose backup kills its worker must not kill all of them."""
SKEW_S = 5.0
"""A clock that is off by more is told."""
ANYWHERE = "*"
"""The queue of tasks that any worker may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a task is about, where it is no VM: ``uuid`` is empty then."""

    name: str
    pool: str
    uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One VM's part of a run. ``order`` says what to do, as JSON, without secrets."""

    id: str
    run: str
    key: str
    queue: str
    order: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A task in the hands of a worker."""

    task: Task
    number: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker says of itself."""

    id: str
    site: str
    host: str
    pid: int
    version: str
    slots: int
    reach: Mapping[str, Sequence[str]]
    """``pools``, ``remotes``, ``targets``: names that its configuration lets it reach."""
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A worker as the board knows it. Ages by the database's clock."""

    worker: Worker
    age_s: float
    """Since its last sign of life."""
    up_s: float
    skew_s: float
    """Its clock minus the database's."""
    doing: tuple[Mapping[str, Any], ...] = ()
    """The orders it works on."""

    @property
    def alive(self) -> bool:
        return self.age_s <= LEASE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Something that happened to a task: an event of its worker's, or what became of it."""

    task: str
    event: Mapping[str, Any]
    id: int = 0
    """On the board; it stays there until it was acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is new of a run. Every word and every end is given until it was acknowledged (:meth:`Board.heard`)."""

    words: tuple[Word, ...] = ()
    ended: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Tasks that are over, with their results."""
