"""What the service is asked to follow, and where it says what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from schedules.agenda import Schedule


class Log(Protocol):
    """Where the service says what it does. ``level``: ``info``, ``warning``, ``error``."""

    def __call__(self, level: str, text: str, **fields: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """A schedule that runs after another one."""

    after: str
    only_ok: bool
    enabled: bool = True
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a configuration asks for. ``stop_at_end``: schedules whose runs stop when their window ends."""

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    followers: Mapping[str, Follower] = field(default_factory=dict)
    stop_at_end: frozenset[str] = frozenset()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """What tells whether two nodes mean the same by the name of a schedule."""
    runs_max: int = 2
    finish_wait_s: float = 0.0
    stop_wait_s: float = 90.0

    @property
    def names(self) -> set[str]:
        return {*self.schedules, *self.followers}
