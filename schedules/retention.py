"""What to keep: pure decisions over timestamps, each with its reason.

Entries are judged oldest to newest by timestamp, ties by id, so the answer never depends on the order given.
Nothing here deletes anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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


def newest(entries: Iterable[Entry], count: int) -> list[Verdict]:
    """Keep the newest ``count``; verdicts oldest first. ``count`` below one is refused: it would keep nothing."""
    if count < 1:
        raise ValueError(f"retention must keep at least 1, got {count}")
    ordered = sorted(entries, key=lambda entry: (entry.timestamp_ms, entry.id))
    first_kept = max(0, len(ordered) - count)
    return [
        Verdict(entry=entry, keep=True, reason=f"among the newest {count}")
        if position >= first_kept
        else Verdict(entry=entry, keep=False, reason=f"older than the newest {count}")
        for position, entry in enumerate(ordered)
    ]


def expired(verdicts: Iterable[Verdict]) -> list[Entry]:
    """The entries that are not kept, oldest first."""
    return [verdict.entry for verdict in verdicts if not verdict.keep]
