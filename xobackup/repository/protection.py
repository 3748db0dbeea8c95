"""Locks on what a repository holds: what is put under one, what one forbids, and how far a chain may grow under it.

A restore point is worth as much as the oldest disk it is built on. So a remote that locks (:class:`LockRule`) locks
every object of a disk for ``days`` and, besides, for ``chain_days``, the longest that a chain may grow before a full
begins the next one: the first disk of a chain stays locked until the last restore point built on it has been locked
for ``days``. A chain is continued only while that is *proven* by the locks that the storage tells of.

Merging there would make copies that are locked anew, and delete nothing: a chain goes as a whole, when the last
restore point that needs it is gone and its locks have ended.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from remotes import faces
from remotes.contract import Remote
from remotes.errors import NotFound, TooLarge
from vhd.directory import FILTERS, HEADER, TABLE
from xobackup.repository.base import Tip
from xobackup.repository.errors import BadMetadata
from xobackup.repository.json_text import parse_object
from xobackup.repository.layout import metadata_name, point_of_disk, timestamp_of, vm_directory
from xobackup.repository.lineage import Lineage, MemberDisk
from xobackup.repository.lock_rule import COMPLIANCE, DAY_S, IMMUTABLE, LockRule
from xobackup.repository.metadata import RestorePoint

IMMUTABILITY = "immutability.json"
_LIMIT_BYTES = 4096
_FAR_S = 250_000_000_000.0
"""The year 9892: what lies behind is no date."""
_DATED = re.compile(r"\d{8}T\d{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Something that a lock keeps. ``until_s``: Unix seconds, ``None`` when nothing tells an end."""

    what: str
    how: str
    until_s: float | None
    hides: bool

    def __str__(self) -> str:
        return f"{self.what} is held by {self.how} {until_text(self.until_s)}"


def longest(found: Iterable[Held]) -> Held | None:
    """The lock that ends last."""
    return max(found, key=lambda held: float("inf") if held.until_s is None else held.until_s, default=None)


def until_text(until_s: float | None) -> str:
    """``until 2026-12-01 03:00 UTC``."""
    if until_s is None or until_s > _FAR_S:
        return "with no end told"
    return time.strftime("until %Y-%m-%d %H:%M UTC", time.gmtime(until_s))


class Locks:
    """What is locked on one remote, asked of the storage when it is wanted."""

    def __init__(self, remote: Remote, *, now_s: float) -> None:
        self._remote = remote
        self._now_s = now_s
        self._lifted_after_s: float | None = None
        self._asked = False

    def of(self, what: str, names: Iterable[str]) -> Held | None:
        """The longest lock among ``names``, which are what ``what`` is made of."""
        found = [held for name in names if (held := self._one(what, name)) is not None]
        return longest(found)

    def of_disk(self, vm: str, lineage: str, member: MemberDisk) -> Held | None:
        root = f"{vm_directory(vm)}/{lineage}"
        return self.of(f"disk {member.name}", [f"{root}/{name}" for name in _parts(member)])

    def of_point(self, point: RestorePoint) -> Held | None:
        names = [metadata_name(point.vm_uuid, point.id)]
        if point.xva is not None:
            names.append(f"{vm_directory(point.vm_uuid)}/{point.xva}")
        return self.of(f"restore point {point.id}", names)

    def _one(self, what: str, name: str) -> Held | None:
        found = faces.protection(self._remote, name)
        if found is None or not found.holds(self._now_s):
            return None
        until_s = found.until_s
        if until_s is None and not found.hides and (lifted := self._lifted()) is not None:
            dated = _DATED.search(name)
            moment = timestamp_of(dated[0]) if dated else None
            until_s = None if moment is None else max(self._now_s, moment / 1000 + lifted)
        return Held(what=what, how=found.how, until_s=until_s, hides=found.hides)

    def _lifted(self) -> float | None:
        """After how many seconds whoever sets flags there says that he lifts them."""
        if not self._asked:
            self._lifted_after_s, self._asked = read_duration_s(self._remote), True
        return self._lifted_after_s


def read_duration_s(remote: Remote) -> float | None:
    """What ``immutability.json`` (Xen Orchestra's daemon's, or ours) says; ``None``: nothing, or nothing clear."""
    try:
        value = parse_object(remote.get(IMMUTABILITY, limit_bytes=_LIMIT_BYTES), IMMUTABILITY)
    except (NotFound, BadMetadata, TooLarge):
        return None
    duration_ms = value.get("duration")
    if (
        value.get("immutable") is not True
        or isinstance(duration_ms, bool)
        or not isinstance(duration_ms, int | float)
    ):
        return None
    return float(duration_ms) / 1000 if 0 < duration_ms < float("inf") else None


def not_locked(remote: Remote, point: RestorePoint, rule: LockRule | None, *, now_s: float) -> str:
    """What is wrong with the lock on ``point``, which was just put; ``""``: nothing, or no lock is wanted."""
    if rule is None or rule.mode == IMMUTABLE:
        return ""
    found = faces.protection(remote, metadata_name(point.vm_uuid, point.id))
    if found is None:
        may = "a key that may not see locks needs s3:GetObjectRetention; otherwise the store ignores them"
        return f"the store does not say that restore point {point.id} is locked: {may}"
    if found.until_s is not None and found.until_s < now_s + rule.days * DAY_S:
        return f"restore point {point.id} is locked only {until_text(found.until_s)}, not for {_days(rule.days)}"
    return ""


def with_chain_end(
    remote: Remote, vm: str, lineage: Lineage, tip: Tip, rule: LockRule | None, *, now_s: float
) -> Tip:
    """``tip`` with why its chain must not grow any more under ``rule``, if that is so."""
    if rule is None or not tip.name or tip.problem:
        return tip
    return replace(tip, chain_end=chain_end(remote, vm, lineage, tip.name, rule, now_s=now_s))


def chain_end(remote: Remote, vm: str, lineage: Lineage, name: str, rule: LockRule, *, now_s: float) -> str:
    """Why the chain of ``name`` must not grow any more under ``rule``; ``""`` when it may."""
    chain = lineage.chain(name)
    if not chain:
        return ""
    needed_s = now_s + rule.days * DAY_S
    wanted = f"what is backed up now must be protected for {_days(rule.days)}, {until_text(needed_s)}"
    if rule.mode == IMMUTABLE:
        moment = timestamp_of(point_of_disk(chain[0].name) or "")
        ends_s = None if moment is None else moment / 1000 + rule.lock_s
        if ends_s is not None and ends_s >= needed_s:
            return ""
        return f"the chain begins with {chain[0].name} and may grow for {_days(rule.chain_days)}: {wanted}"
    for member in chain:
        found = _oldest_lock(remote, f"{vm_directory(vm)}/{lineage.path}", member)
        if found is None:
            return f"{member.name}, which it would build on, is not locked: {wanted}"
        if found.until_s is not None and found.until_s < needed_s:
            return f"{member.name}, which it would build on, is locked only {until_text(found.until_s)}: {wanted}"
        if rule.mode == COMPLIANCE and found.mode not in ("", COMPLIANCE):
            return f"{member.name}, which it would build on, is locked in {found.mode} mode only"
    return ""


def _oldest_lock(remote: Remote, root: str, member: MemberDisk) -> faces.Protection | None:
    """The lock on what was put first of a disk, and is never put again; some have no filters."""
    if member.data is None:
        return faces.protection(remote, f"{root}/{member.name}")
    first = faces.protection(remote, f"{root}/{member.data}/{FILTERS}")
    return first or faces.protection(remote, f"{root}/{member.data}/{HEADER}")


def _days(count: float) -> str:
    return f"{count:g} day{'' if count == 1 else 's'}"


def _parts(member: MemberDisk) -> tuple[str, ...]:
    """Names that stand for all of a disk: the first of its objects that were put, and the last."""
    if member.data is None:
        return (member.name,)
    return (f"{member.data}/{FILTERS}", f"{member.data}/{HEADER}", f"{member.data}/{TABLE}", member.name)
