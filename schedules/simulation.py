"""Retention ahead of time: pure. What a rule would have kept after every run of a regular schedule."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.retention import MS_PER_DAY, Entry, Rule, Verdict, judge

RUNS_MAX = 20_000
"""More would take minutes and tell nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """After the last run of a day: how many entries there are, and those that expired in the course of it."""

    number: int
    timestamp_ms: int
    kept: int
    expired: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """``verdicts``: at the end, oldest first; ``most``: the largest number of entries there ever were, before a run's
    retention."""

    days: tuple[Day, ...]
    verdicts: tuple[Verdict, ...]
    most: int


def simulate(rule: Rule, *, begin_ms: int, days: int, every_ms: int) -> Simulation:
    """Runs every ``every_ms`` from ``begin_ms`` on for ``days``, beginning with nothing. Ids are ``@<ms>``.

    Raises ``ValueError`` when nothing or too much would be simulated.
    """
    if days < 1 or every_ms < 1:
        raise ValueError(f"expected at least a day and a pause, got {days} days and {every_ms} ms")
    runs = (days * MS_PER_DAY - 1) // every_ms + 1
    if runs > RUNS_MAX:
        raise ValueError(
            f"{runs} runs are more than the {RUNS_MAX} that are simulated: fewer days, or a longer pause"
        )
    there: list[Entry] = []
    verdicts: list[Verdict] = []
    by_day: dict[int, Day] = {}
    most = 0
    for number in range(runs):
        at_ms = begin_ms + number * every_ms
        there.append(Entry(id=f"@{at_ms}", timestamp_ms=at_ms))
        most = max(most, len(there))
        verdicts = judge(there, rule, now_ms=at_ms)
        gone = tuple(verdict.entry for verdict in verdicts if not verdict.keep)
        there = [verdict.entry for verdict in verdicts if verdict.keep]
        day = (at_ms - begin_ms) // MS_PER_DAY
        before = by_day[day].expired if day in by_day else ()
        by_day[day] = Day(number=day, timestamp_ms=at_ms, kept=len(there), expired=(*before, *gone))
    return Simulation(
        days=tuple(by_day.values()), verdicts=tuple(verdict for verdict in verdicts if verdict.keep), most=most
    )
