"""Restore points of one VM from a source to a target, oldest first, each published when all of it is there.

The source is only read, without a lock. A point counts as read only if the source still lists it after its last
block was read: retention takes the JSON away before a merge may change what its disks hold. The target is written
under the VM's lock; what is killed half-way is cleared by the next start, and what was published stays.
Nothing is deleted at the target unless both listings are certain and every copy of the VM succeeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from remotes.errors import Corrupt, NotFound, RemoteError
from vhd.errors import VhdError
from xobackup.engine import keys
from xobackup.engine.errors import IntegrityError, UsageError
from xobackup.engine.mirror.choose import Choice, Filter, choose, due, group_of
from xobackup.engine.mirror.disks import Copied, copy_disk
from xobackup.repository.draft import KEYS_DELTA, KEYS_FULL
from xobackup.repository.errors import LockLost, RepositoryError
from xobackup.repository.identity import read_identity
from xobackup.repository.images.reading import ImageReader
from xobackup.repository.layout import metadata_name
from xobackup.repository.metadata import MODE_FULL
from xobackup.repository.verify import VerifyOptions

if TYPE_CHECKING:
    from schedules.retention import Rule
    from xobackup.clock import Clock
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.progress import Meter
    from xobackup.engine.throttle import Throttle
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repository import Repository
    from xobackup.repository.vm_directory import VmDirectory

LOCK_WAIT_S = 15.0
PIECE_BYTES = 1 << 20
_POINT_ERRORS = (RemoteError, RepositoryError, VhdError, IntegrityError, OSError)
_DAMAGE = (Corrupt, VhdError, IntegrityError)
_OURS = {"size", "isVhdDifferencing", "version", "xva"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a mirror is asked for. ``rule``: retention at the target; ``None`` deletes nothing there."""

    filter: Filter = field(default_factory=Filter)
    rule: Rule | None = None
    verify: bool = False
    """Read what was published from the target again, and compare it with its digests."""


@dataclass(slots=True, kw_only=True)
class VmMirrored:
    """What became of one VM's restore points."""

    vm: str
    name: str
    copied: dict[str, Copied] = field(default_factory=dict)
    left: list[Choice] = field(default_factory=list)
    """Not copied, and why."""
    failed: dict[str, str] = field(default_factory=dict)
    """By id of the point; ``""`` is what concerns the VM as a whole."""
    deleted: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    """Those of ``failed`` that are damaged at the source."""


def refuse_same(source: Repository, target: Repository) -> None:
    """:class:`UsageError` when both are one repository."""
    one, other = read_identity(source.remote), read_identity(target.remote)
    if source.remote.url == target.remote.url or (one is not None and other is not None and one.id == other.id):
        raise UsageError(
            f"source and target are the same repository: {source.remote.url} and {target.remote.url}",
            hint="if one is a plain copy of the other, move its .xobackup/remote.json away and run `remote accept`",
        )


def plan_vm(source: Repository, target: Repository, vm: str, wish: Wish, *, clock: Clock) -> list[Choice]:
    """What :func:`mirror_vm` would do with each point of the source, without a lock."""
    there, now_ms = target.points(vm).points, round(clock.now_s() * 1000)
    return choose(source.points(vm).points, there, filter=wish.filter, rule=wish.rule, now_ms=now_ms)


class VmMirror:
    """One VM; see the module's head."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        vm: str,
        wish: Wish,
        *,
        clock: Clock,
        cancel: CancelToken,
        throttle: Throttle | None = None,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """``throttle``: of what is copied; ``turn``: a context for copying each restore point, within the lock."""
        self._source = source
        self._target = target
        self._vm = vm
        self._wish = wish
        self._clock = clock
        self._cancel = cancel
        self._throttle = throttle
        self._turn = turn

    def run(self, meter: Meter) -> VmMirrored:
        """Copy, expire, merge, verify. What fails for one point is told in the answer; a lost lock is raised."""
        listing = self._source.points(self._vm)
        done = VmMirrored(vm=self._vm, name=listing.points[-1].vm_name if listing.points else self._vm)
        done.notes += [f"at the source: {problem}" for problem in listing.problems]
        choices = plan_vm(self._source, self._target, self._vm, self._wish, clock=self._clock)
        if all(choice.reason for choice in choices) and self._wish.rule is None:
            done.left = choices
            return done
        with self._target.lock(
            self._vm, timeout_s=LOCK_WAIT_S, purpose="mirror", check=self._cancel.check
        ) as directory:
            directory.merge(cancel=self._cancel.check)
            for choice in self._choices(listing.points, directory):
                self._cancel.check()
                if choice.reason:
                    done.left.append(choice)
                else:
                    with self._turn():
                        self._point(directory, choice.point, done, meter)
            self._expire(directory, listing.certain, listing.points, done)
            directory.merge(cancel=self._cancel.check)
            if not done.copied:
                directory.drop_empty()
        if self._wish.verify:
            self._verify(done)
        return done

    def _choices(self, points: tuple[RestorePoint, ...], directory: VmDirectory) -> list[Choice]:
        now_ms = round(self._clock.now_s() * 1000)
        there = directory.points().points
        return choose(points, there, filter=self._wish.filter, rule=self._wish.rule, now_ms=now_ms)

    def _point(self, directory: VmDirectory, point: RestorePoint, done: VmMirrored, meter: Meter) -> None:
        copied = Copied()
        try:
            if point.mode == MODE_FULL:
                self._image(directory, point, copied, meter)
            else:
                self._disks(directory, point, copied, meter)
        except LockLost:
            raise
        except _POINT_ERRORS as error:
            self._cancel.check()
            if self._listed(point):
                done.failed[point.id] = str(error)
                if isinstance(error, _DAMAGE):
                    done.damaged[point.id] = str(error)
            else:
                done.left.append(Choice(point=point, reason="the source's retention took it away meanwhile"))
            return
        done.copied[point.id] = copied

    def _disks(self, directory: VmDirectory, point: RestorePoint, copied: Copied, meter: Meter) -> None:
        draft = {key: value for key, value in point.metadata.items() if key in KEYS_DELTA and key not in _OURS}
        vdis = draft.get("vdis")
        vdis = dict(vdis) if isinstance(vdis, dict) else {}
        paths: dict[str, str] = {}
        for disk in point.disks:
            one = copy_disk(
                self._source, directory, point, disk, copied, moved=partial(self._moved, meter), cancel=self._cancel
            )
            paths[disk.vdi_ref] = one.path
            vdis[disk.vdi_ref] = _continuing(vdis.get(disk.vdi_ref), one.base_uuid)
        self._require(point)
        directory.publish({**draft, "vdis": vdis, "vhds": paths})

    def _image(self, directory: VmDirectory, point: RestorePoint, copied: Copied, meter: Meter) -> None:
        draft = {key: value for key, value in point.metadata.items() if key in KEYS_FULL and key not in _OURS}
        with closing(ImageReader(self._source.remote, point)) as reader:
            writer = directory.begin_image(point.timestamp_ms, bound_bytes=reader.size_bytes)
            try:
                md5 = hashlib.md5(usedforsecurity=False)
                buffer = memoryview(bytearray(PIECE_BYTES))
                while count := reader.readinto(buffer):
                    self._cancel.check()
                    md5.update(buffer[:count])
                    writer.write(buffer[:count])
                    self._moved(meter, count)
                if reader.agrees is False:
                    raise IntegrityError(f"image of {point.id} is not what was written (its checksum differs)")
                self._require(point)
                image = writer.finish(md5.hexdigest())
            except BaseException:
                writer.abort()
                raise
            directory.publish_image(draft, image)
            copied.size_bytes = reader.size_bytes
            copied.unchecked = 0 if reader.agrees else 1

    def _moved(self, meter: Meter, size_bytes: int) -> None:
        meter.add(size_bytes)
        if self._throttle is not None:
            meter.busy("throttle", self._throttle.take(size_bytes, self._cancel))

    def _listed(self, point: RestorePoint) -> bool:
        try:
            self._source.remote.stat(metadata_name(self._vm, point.id))
        except NotFound:
            return False
        except RemoteError:
            return True
        return True

    def _require(self, point: RestorePoint) -> None:
        """Raise :class:`NotFound` when the source lists ``point`` no more: what was read may be anything."""
        self._source.remote.stat(metadata_name(self._vm, point.id))

    def _expire(
        self, directory: VmDirectory, certain: bool, source: tuple[RestorePoint, ...], done: VmMirrored
    ) -> None:
        rule = self._wish.rule
        if rule is None:
            return
        there = directory.points()
        if not certain or not there.certain or done.failed:
            done.notes.append("nothing was deleted at the target: not everything could be listed and copied")
            return
        meant = {group_of(point) for point in source if not self._wish.filter.refuses(point)}
        gone = due(there.points, meant, rule, now_ms=round(self._clock.now_s() * 1000))
        held = directory.held_points([point for point in there.points if point.id in gone])
        done.notes += [str(each) for each in held.values()]
        gone -= set(held)
        gone -= directory.needed_points(gone)
        done.deleted = directory.delete_points(sorted(gone))

    def _verify(self, done: VmMirrored) -> None:
        points = [one for one in done.copied if one not in done.deleted]
        if not points:
            return
        report = self._target.verify(self._vm, points=points, options=VerifyOptions(check=self._cancel.check))
        if report.damaged:
            done.failed[""] = "; ".join(str(problem) for problem in report.problems)


def _continuing(record: object, base_uuid: str) -> dict[str, Any]:
    """A disk's record, naming the snapshot that its copy continues at the target, not at the source."""
    values: dict[str, Any] = dict(record) if isinstance(record, dict) else {}
    config = values.get("other_config")
    told = (
        {key: value for key, value in config.items() if key != keys.BASE_DELTA_VDI}
        if isinstance(config, dict)
        else {}
    )
    return {**values, "other_config": {**told, keys.BASE_DELTA_VDI: base_uuid} if base_uuid else told}
