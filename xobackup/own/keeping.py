"""Which of our own backups go: pure. All but the newest so many, and pieces that belong to none.

Backups from the future are the trace of a clock that was wrong: as long as there is one, nothing goes, because which
ones are the newest is not known. A manifest goes before its pieces, so that what is left halfway is pieces without a
manifest, which is nothing. Those go only when a newer backup is complete, and not within a day: another process may
be at it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from remotes.contract import Remote
from xobackup.own.layout import directory, manifest_name
from xobackup.own.listing import Found, look

UNFINISHED = timedelta(days=1)
AHEAD = timedelta(hours=1)
"""Clocks of machines may differ by that much."""


def doomed(found: Found, *, keep: int, now_s: float) -> list[str]:
    """Names in the order in which they are to be deleted."""
    kept = found.complete[-keep:]
    names: list[str] = []
    if not kept or _age(kept[-1], now_s) < -AHEAD:
        return names
    for stamp in found.complete:
        if stamp not in kept:
            names += [manifest_name(stamp), *found.parts.get(stamp, ())]
    for stamp, parts in sorted(found.parts.items()):
        if stamp not in found.complete and stamp < kept[-1] and _age(stamp, now_s) > UNFINISHED:
            names += parts
    return names


def _age(stamp: str, now_s: float) -> timedelta:
    begun = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return datetime.fromtimestamp(now_s, tz=UTC) - begun


def expire(remote: Remote, machine: str, *, keep: int, now_s: float) -> list[str]:
    """Delete them; which ones. Raises ``RemoteError``."""
    names = doomed(look(remote, machine), keep=keep, now_s=now_s)
    for name in names:
        remote.delete(f"{directory(machine)}/{name}", missing_ok=True)
    return names
