"""Retention over all remotes that a job spreads a VM's backups over: pure.

Restore points count by their moment, wherever they are; one that is on several remotes counts once. A remote whose
points are not known is not counted. What is judged old without it is old with it too: more points push others out of
the newest, older ones take the place of those that stood for a period, and more periods push others out. So nothing
is deleted for the sake of a point that was not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from schedules.retention import Entry, Rule, Verdict, judge


def judge_over_all(
    own: Iterable[Entry],
    elsewhere: Iterable[Entry],
    rule: Rule,
    *,
    now_ms: int | None = None,
    pins: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Verdicts on a remote's ``own`` points by ``rule``, which holds for all of them together; oldest first.

    ``now_ms`` and ``pins`` (by ids of its own) as of :func:`schedules.retention.judge`."""
    mine = sorted(own, key=lambda entry: (entry.timestamp_ms, entry.id))
    moments = {entry.timestamp_ms for entry in (*mine, *elsewhere)}
    entries = [Entry(id=str(moment), timestamp_ms=moment) for moment in moments]
    pinned = {str(entry.timestamp_ms): pins[entry.id] for entry in mine if entry.id in pins} if pins else {}
    verdicts = judge(entries, rule, now_ms=now_ms, pins=pinned)
    judged = {verdict.entry.timestamp_ms: verdict for verdict in verdicts}
    return [replace(judged[entry.timestamp_ms], entry=entry) for entry in mine]
