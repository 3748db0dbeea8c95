"""What to keep: pure decisions over timestamps, each with its reason.

A *rule* keeps the newest so many entries and, over the long term, one entry per hour, day, week, month and year for
so many of them. Entries are judged by timestamp, ties by id, so the answer never depends on the order given. Nothing
here deletes anything.

The long term is Xen Orchestra's rule, exactly, since repositories are shared with it: periods are counted from the
newest entry backwards, only those that have an entry count, and the **oldest** entry of a period stands for it. So
the first backup of a month is known at once to be that month's, and what expires is never the one that was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from schedules.periods import PERIODS, Offsets, label_of, zone_of

MS_PER_DAY = 86_400_000
NOUNS = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that may be kept. ``timestamp_ms`` is Unix time in milliseconds."""

    id: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Keep it or not, and why."""

    entry: Entry
    keep: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTerm:
    """What is kept besides the newest: so many hours, days, ... that have an entry, newest first; 0 = none."""

    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    timezone: str = "UTC"
    """IANA name: whose days these are."""
    offsets: Offsets = field(default_factory=Offsets)
    """When days, weeks, months and years begin."""
    age_min_ms: int = 0
    """What is younger is kept whatever else is said."""

    def __post_init__(self) -> None:
        for period in PERIODS:
            if self.count(period) < 0:
                raise ValueError(f"{period} retention must be at least 0, got {self.count(period)}")
        if self.age_min_ms < 0:
            raise ValueError(f"the minimum age must be at least 0, got {self.age_min_ms} ms")
        zone_of(self.timezone)

    def count(self, period: str) -> int:
        """Of ``period``, one of :data:`schedules.periods.PERIODS`."""
        return int(getattr(self, period))

    @property
    def kept(self) -> tuple[str, ...]:
        """The periods of which any is kept."""
        return tuple(period for period in PERIODS if self.count(period))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How much is kept: the ``newest`` so many, and the long term."""

    newest: int
    long_term: LongTerm = field(default_factory=LongTerm)

    def __post_init__(self) -> None:
        if self.newest < 1:
            raise ValueError(f"retention must keep at least 1, got {self.newest}")

    def __str__(self) -> str:
        kept = [f"the newest {self.newest}"]
        kept += [f"{self.long_term.count(period)} {period}" for period in self.long_term.kept]
        if self.long_term.age_min_ms:
            kept.append(f"all younger than {days_of(self.long_term)}")
        return ", ".join(kept)


def judge(
    entries: Iterable[Entry], rule: Rule, *, now_ms: int | None = None, pins: Mapping[str, str] | None = None
) -> list[Verdict]:
    """Verdicts by ``rule``, oldest first. ``now_ms`` is needed for a minimum age; ``pins`` gives, by id, the reason
    why an entry stays in any case.
    """
    if rule.long_term.age_min_ms and now_ms is None:
        raise ValueError("a minimum age needs to know what time it is")
    pinned = pins or {}
    ordered = sorted(entries, key=lambda entry: (entry.timestamp_ms, entry.id))
    reasons: dict[str, list[str]] = {entry.id: [] for entry in ordered}
    assert len(reasons) == len(ordered), "two entries with one id"
    for entry in ordered[-rule.newest :]:
        reasons[entry.id].append(f"among the newest {rule.newest}")
    for entry_id, reason in _stand_ins(ordered, rule.long_term):
        reasons[entry_id].append(reason)
    for entry in ordered:
        if entry.id in pinned:
            reasons[entry.id].append(pinned[entry.id])
        if now_ms is not None and now_ms - entry.timestamp_ms < rule.long_term.age_min_ms:
            reasons[entry.id].append(f"younger than {days_of(rule.long_term)}")
    return [
        Verdict(entry=entry, keep=bool(reasons[entry.id]), reason=", ".join(reasons[entry.id]) or _why_not(rule))
        for entry in ordered
    ]


def newest(entries: Iterable[Entry], count: int) -> list[Verdict]:
    """Keep the newest ``count``; verdicts oldest first. ``count`` below one is refused: it would keep nothing."""
    return judge(entries, Rule(newest=count))


def expired(verdicts: Iterable[Verdict]) -> list[Entry]:
    """The entries that are not kept, oldest first."""
    return [verdict.entry for verdict in verdicts if not verdict.keep]


def stands_for(timestamp_ms: int, others: Collection[Entry], long_term: LongTerm) -> list[str]:
    """The periods that an entry of ``timestamp_ms`` opens beside ``others``, as Xen Orchestra writes them into the
    metadata of a restore point: ``["daily=2026-08-21", "monthly=2026-08"]``.
    """
    opened = []
    for period in long_term.kept:
        name = _namer(long_term, period)
        label = name(timestamp_ms)
        if not any(entry.timestamp_ms < timestamp_ms and name(entry.timestamp_ms) == label for entry in others):
            opened.append(f"{period}={label}")
    return opened


def days_of(long_term: LongTerm) -> str:
    """The minimum age, as text."""
    return f"{long_term.age_min_ms / MS_PER_DAY:g} d"


def _stand_ins(ordered: list[Entry], long_term: LongTerm) -> Iterable[tuple[str, str]]:
    """Id and reason of every entry that stands for a period."""
    for period in long_term.kept:
        most, name, found = long_term.count(period), _namer(long_term, period), dict[str, str]()
        for entry in reversed(ordered):
            label = name(entry.timestamp_ms)
            if label not in found and len(found) == most:
                break
            found[label] = entry.id
        for number, (label, entry_id) in enumerate(found.items(), start=1):
            yield entry_id, f"{period} {label} ({number} of {most})"


def _namer(long_term: LongTerm, period: str) -> Callable[[int], str]:
    return lambda at_ms: label_of(at_ms, period, timezone=long_term.timezone, offsets=long_term.offsets)


def _why_not(rule: Rule) -> str:
    reason = f"older than the newest {rule.newest}"
    nouns = [NOUNS[period] for period in rule.long_term.kept]
    return f"{reason}, and stands for no {' or '.join(nouns)} that is kept" if nouns else reason
