"""Make backups immutable on the machine that has the disks, and lift that again: by names and dates alone.

Nothing is read, so it works on encrypted remotes without their key, and needs no trust in what is written there. A
restore point is whole from its JSON on; then everything named by its time is frozen: disks (a directory with all
that is in it), the image, its checksum, the JSON last. It stays frozen for ``days + chain_days`` after the time in
its name (:mod:`.lock_rule`): runs end chains in time, so that by then nothing that must be protected builds on it.

What is frozen is reached through no symbolic link: who writes to the share from elsewhere must not lead root astray,
nor keep the rest from being frozen.

Who works on a VM (a run, a merge, Xen Orchestra) holds its lock; that VM's turn comes when the lock is free. Whatever
stops this in between, the next time goes on. A name whose time lies more than a day ahead is left alone and told: its
flag would not be lifted in time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from remotes import faces
from remotes.contract import Kind, Remote
from remotes.errors import NotFound, RemoteError
from remotes.faces import Freezing
from remotes.names import join
from xobackup.clock import Clock
from xobackup.repository.errors import LockHeld
from xobackup.repository.layout import (
    CACHE,
    CHECKSUM_SUFFIX,
    DATA,
    JSON_SUFFIX,
    VDIS,
    VM_BACKUPS,
    XVA_SUFFIX,
    is_uuid,
    point_of_disk,
    timestamp_of,
    vm_directory,
)
from xobackup.repository.lock_rule import DAY_S, LockRule
from xobackup.repository.locking import lock_for
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.pools.layout import METADATA, POOL_BACKUPS
from xobackup.repository.protection import IMMUTABILITY

AHEAD_S = DAY_S
ENCRYPTION_FILES = ("encryption.json", "metadata.json")


class Want(StrEnum):
    FREEZE = "freeze"
    LIFT = "lift"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """Everything at one place that is named by one time. ``names``: in the order in which they are frozen."""

    stamp: str
    whole: bool
    names: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class FreezeReport:
    """What was done, by names; ``left``: what was not, and why; ``failed``: what should have been."""

    frozen: list[str] = field(default_factory=list)
    lifted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def wanted(dated: Dated, rule: LockRule, *, now_s: float) -> tuple[Want, str]:
    """What should become of it, and why it is left alone if that is worth telling. Pure."""
    moment_ms = timestamp_of(dated.stamp)
    if moment_ms is None:
        return Want.LEAVE, ""
    age_s = now_s - moment_ms / 1000
    if age_s < -AHEAD_S:
        return Want.LEAVE, f"{dated.names[-1]} is dated {-age_s / DAY_S:.1f} days ahead: is the clock right?"
    if age_s >= rule.lock_s:
        return Want.LIFT, ""
    return (Want.FREEZE, "") if dated.whole else (Want.LEAVE, "")


def apply_freezing(
    remote: Remote, rule: LockRule, *, clock: Clock, check: Callable[[], None], dry: bool = False
) -> FreezeReport:
    """Freeze what is due and lift what is over, VM by VM. ``dry``: only say what would be done."""
    report = FreezeReport()
    if not dry:
        _announce(remote, rule, clock)
    work = _Work(remote=remote, rule=rule, now_s=clock.now_s(), dry=dry, report=report)
    for vm in (name for name in _children(remote, VM_BACKUPS) if is_uuid(name)):
        check()
        if dry:
            work.do(_of_vm(remote, vm), check)
            continue
        options = RepositoryOptions()
        lock = lock_for(remote, vm, clock=clock, options=options, timeout_s=0, purpose="immutability", check=check)
        try:
            with lock as held:
                work.do(_of_vm(remote, vm), held.check)
        except LockHeld as error:
            report.left.append(f"{error}; its turn comes next time")
        except RemoteError as error:
            report.failed.append(str(error))
    for schedule in _children(remote, POOL_BACKUPS):
        for pool in _children(remote, join(POOL_BACKUPS, schedule)):
            work.do(_of_pool(remote, f"{POOL_BACKUPS}/{schedule}/{pool}"), check)
    for name in ENCRYPTION_FILES:
        if _is_there(remote, name):
            _freeze(remote, name, report, dry=dry)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    remote: Remote
    rule: LockRule
    now_s: float
    dry: bool
    report: FreezeReport

    def do(self, found: Iterator[Dated], check: Callable[[], None]) -> None:
        """``check`` raises when the VM's lock is lost, or to stop."""
        for dated in found:
            check()
            want, told = wanted(dated, self.rule, now_s=self.now_s)
            if told:
                self.report.left.append(told)
            try:
                self._do(dated, want)
            except RemoteError as error:  # somebody's symbolic link, say: it must not keep the rest from being frozen
                self.report.failed.append(str(error))

    def _do(self, dated: Dated, want: Want) -> None:
        if want is Want.FREEZE and faces.protection(self.remote, dated.names[-1]) is None:
            for name in dated.names:  # frozen in order: were the last one, so were all
                _freeze(self.remote, name, self.report, dry=self.dry)
        elif want is Want.LIFT:
            for name in dated.names:
                _lift(self.remote, name, self.report, dry=self.dry)


def _freeze(remote: Remote, name: str, report: FreezeReport, *, dry: bool) -> None:
    """A directory after what is in it: while it is frozen nothing can come into it."""
    if faces.protection(remote, name) is not None:
        return
    for each in _children(remote, name) if remote.stat(name).kind is Kind.DIRECTORY else ():
        _freeze_quietly(remote, join(name, each), dry=dry)
    if dry or _freezing(remote).freeze(name, True):
        report.frozen.append(name)


def _freeze_quietly(remote: Remote, name: str, *, dry: bool) -> None:
    if not dry:
        _freeze(remote, name, FreezeReport(), dry=False)


def _lift(remote: Remote, name: str, report: FreezeReport, *, dry: bool) -> None:
    inner = FreezeReport()
    frozen = faces.protection(remote, name) is not None
    if frozen and not dry:
        _freezing(remote).freeze(name, False)
    for each in _children(remote, name) if remote.stat(name).kind is Kind.DIRECTORY else ():
        _lift(remote, join(name, each), inner, dry=dry)
    if frozen or inner.lifted:
        report.lifted.append(name)


def _freezing(remote: Remote) -> Freezing:
    assert isinstance(remote, Freezing), f"{remote.url}: checked before"
    return remote


def _of_vm(remote: Remote, vm: str) -> Iterator[Dated]:
    root = vm_directory(vm)
    points: dict[str, list[str]] = {}
    disks: dict[str, list[str]] = {}
    for base in _children(remote, root):
        stem = base.removesuffix(CHECKSUM_SUFFIX).removesuffix(XVA_SUFFIX).removesuffix(JSON_SUFFIX)
        if base != CACHE and timestamp_of(stem) is not None:
            points.setdefault(stem, []).append(join(root, base))
    for job in _children(remote, join(root, VDIS)):
        for disk in _children(remote, f"{root}/{VDIS}/{job}"):
            lineage = f"{root}/{VDIS}/{job}/{disk}"
            for place in (join(lineage, DATA), lineage):
                for base in _children(remote, place):
                    if (stamp := point_of_disk(base)) is not None:
                        disks.setdefault(stamp, []).append(join(place, base))
    for stamp in sorted({*points, *disks}):
        own = sorted(points.get(stamp, []), key=lambda name: name.endswith(JSON_SUFFIX))
        whole = any(name.endswith(JSON_SUFFIX) for name in own)
        yield Dated(stamp=stamp, whole=whole, names=(*disks.get(stamp, ()), *own))


def _of_pool(remote: Remote, directory: str) -> Iterator[Dated]:
    for stamp in _children(remote, directory):
        place = join(directory, stamp)
        if timestamp_of(stamp) is not None:
            yield Dated(stamp=stamp, whole=_is_there(remote, join(place, METADATA)), names=(place,))


def _children(remote: Remote, directory: str) -> list[str]:
    try:
        return [entry.name for entry in remote.list(directory)]
    except NotFound:
        return []


def _is_there(remote: Remote, name: str) -> bool:
    try:
        remote.stat(name)
    except NotFound:
        return False
    return True


def _announce(remote: Remote, rule: LockRule, clock: Clock) -> None:
    """Tell others, Xen Orchestra too, that there are immutable files, and for how long."""
    duration = round(rule.lock_s * 1000)
    try:
        old = json.loads(remote.get(IMMUTABILITY, limit_bytes=4096))
    except (NotFound, ValueError):
        old = {}
    if isinstance(old, dict) and old.get("immutable") is True and old.get("duration") == duration:
        return
    value = {"since": round(clock.now_s() * 1000), "immutable": True, "duration": duration}
    remote.put(IMMUTABILITY, json.dumps(value).encode())
