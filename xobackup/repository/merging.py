"""Carry out what :mod:`xobackup.repository.reclaim` proposes, lineage by lineage, under the VM's lock.

Order in a lineage: interrupted merges are finished first (ours and Xen Orchestra's), then litter goes, then disks
nobody needs, tip first, then merges. What a merge makes of the digests is stored before it begins. At the end the
restore points whose disks changed get their true ``size`` and ``isVhdDifferencing``, and the cache is written.
Every step may be the last one: the next run goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from remotes import faces
from remotes.contract import Kind, Remote
from remotes.errors import NotFound, RemoteError
from vhd.errors import VhdError
from vhd.lineage import read_states
from vhd.merge.progress import MergeOptions, Progress
from vhd.merge.run import MergeResult, apply_merge, resume_merge
from vhd.merge.state import Step, root_of
from xobackup.clock import Clock
from xobackup.repository.begun import forget_begun, forget_settled, settled
from xobackup.repository.caching import drop_cache, rebuild_cache
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.draft import encode, rewritten
from xobackup.repository.images.notes import take_back_images
from xobackup.repository.layout import VDIS, digest_directory, metadata_name, split_disk_path, vm_directory
from xobackup.repository.lineage import Lineage, read_lineage
from xobackup.repository.listing import PointListing, list_points
from xobackup.repository.lock_rule import LockRule
from xobackup.repository.memory import forget_memory, noted_memory
from xobackup.repository.merged_digests import prepare_digests
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.protection import Locks
from xobackup.repository.reclaim import ReclaimPlan, ReclaimRefusal, ReclaimStep, StepKind, plan_lineage
from xobackup.repository.withholding import Withholder
from xobackup.repository.workspace import RemoteWorkspace


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeProgress:
    """How far the merge of ``chain`` in ``lineage`` is."""

    lineage: str
    chain: tuple[str, ...]
    blocks_done: int
    blocks_total: int
    bytes_done: int


@dataclass(slots=True, kw_only=True)
class MergeReport:
    """What was done, and what was left alone and why."""

    steps: list[ReclaimStep] = field(default_factory=list)
    refusals: list[ReclaimRefusal] = field(default_factory=list)
    bytes_moved: int = 0
    points_rewritten: list[str] = field(default_factory=list)

    @property
    def merges(self) -> int:
        return sum(1 for step in self.steps if step.kind in (StepKind.MERGE, StepKind.RESUME))


def lineage_paths(remote: Remote, vm: str) -> list[str]:
    """Every ``vdis/<job>/<vdi>`` there is, sorted."""
    found: list[str] = []
    try:
        jobs = remote.list(f"{vm_directory(vm)}/{VDIS}")
    except NotFound:
        return []
    for job in jobs:
        if job.kind is not Kind.DIRECTORY or job.name.startswith("."):
            continue
        disks = remote.list(f"{vm_directory(vm)}/{VDIS}/{job.name}")
        found += [f"{VDIS}/{job.name}/{disk.name}" for disk in disks if disk.kind is Kind.DIRECTORY]
    return found


def plan_merges(remote: Remote, vm: str, *, now_s: float, rule: LockRule | None = None) -> ReclaimPlan:
    """What :func:`run_merges` would begin with; changes nothing. (Resumed merges may lead to more.)"""
    listing, memory = list_points(remote, vm, use_cache=False), noted_memory(remote, vm)
    withholder = Withholder(vm=vm, locks=Locks(remote, now_s=now_s), rule=rule)
    steps: list[ReclaimStep] = []
    refusals: list[ReclaimRefusal] = []
    for path in lineage_paths(remote, vm):
        lineage = settled(remote, vm, read_lineage(_workspace(remote, vm, path), path, CODECS), now_s=now_s)
        plan = withholder.judge(lineage, plan_lineage(lineage, listing, memory=path in memory))
        steps += plan.steps
        refusals += plan.refusals
    return ReclaimPlan(steps=tuple(steps), refusals=tuple(refusals))


def run_merges(
    remote: Remote,
    vm: str,
    *,
    clock: Clock,
    check: Callable[[], None],
    progress: Callable[[MergeProgress], None] | None = None,
    digests: bool = True,
    begin: bool = True,
    rule: LockRule | None = None,
) -> MergeReport:
    """Reclaim everything that no restore point needs. ``check`` raises when the lock is lost, or to cancel.

    ``begin`` False: interrupted merges are finished and litter goes, but no merge begins. ``rule``: of a remote that
    locks; what is locked anywhere is left alone until that ends.
    """
    listing = list_points(remote, vm, use_cache=False)
    report = MergeReport()
    for name in listing.leftovers:
        check()
        remote.delete(f"{vm_directory(vm)}/{name}", missing_ok=True)
    take_back_images(remote, vm, listing, check, now_s=clock.now_s())
    lineages: dict[str, Lineage] = {}
    withholder = Withholder(vm=vm, locks=Locks(remote, now_s=clock.now_s()), rule=rule)
    memory, paths = noted_memory(remote, vm), lineage_paths(remote, vm)
    for path in sorted(memory - set(paths)):
        check()
        forget_memory(remote, vm, path)
    for path in paths:
        merger = _Merger(
            remote, vm, path, clock=clock, check=check, progress=progress, digests=digests, withholder=withholder
        )
        merger.run(listing, report, begin=begin, memory=path in memory)
        lineages[path] = merger.lineage
    check()
    refresh_points(remote, vm, listing, lineages, report)
    return report


def refresh_points(
    remote: Remote, vm: str, listing: PointListing, lineages: Mapping[str, Lineage], report: MergeReport
) -> None:
    """Rewrite the restore points whose ``size`` is not that of their disks (any more), then the cache."""
    changed: list[tuple[RestorePoint, bytes]] = []
    for point in listing.points:
        told = _told_anew(point, lineages)
        if told is not None and not _fixed(remote, vm, point):
            changed.append((point, told))
    if changed:
        drop_cache(remote, vm)
    for point, raw in changed:
        remote.put(metadata_name(vm, point.id), raw)
        report.points_rewritten.append(point.id)
    if changed:
        rebuild_cache(remote, vm)


def _fixed(remote: Remote, vm: str, point: RestorePoint) -> bool:
    """Whether the storage would refuse to replace the point's JSON: then it says what it said before."""
    found = faces.protection(remote, metadata_name(vm, point.id))
    return found is not None and not found.hides


def _told_anew(point: RestorePoint, lineages: Mapping[str, Lineage]) -> bytes | None:
    """The JSON of ``point`` with the truth about its disks, unless it says that already or not every disk is known.

    Saying *not differencing* of a disk that is one is Xen Orchestra's habit after a merge, and is let pass.
    """
    size = 0
    differencing: dict[str, bool] = {}
    for disk in point.disks:
        directory, name = split_disk_path(disk.path)
        lineage = lineages.get(directory)
        member = lineage.members.get(name) if lineage is not None else None
        if member is None:
            return None
        size += member.streamed_size_bytes
        differencing[disk.vdi_ref] = member.differencing
    said = point.metadata.get("isVhdDifferencing")
    hints = said if isinstance(said, dict) else {}
    outdated = any(hints.get(ref) and not found for ref, found in differencing.items())
    if not point.disks or (point.metadata.get("size") == size and not outdated):
        return None
    value = rewritten(point.metadata, size=size, differencing=differencing)
    return None if value is None else encode(value, point.id)


def _workspace(remote: Remote, vm: str, path: str) -> RemoteWorkspace:
    return RemoteWorkspace(remote, f"{vm_directory(vm)}/{path}")


class _Merger:
    """One lineage."""

    def __init__(
        self,
        remote: Remote,
        vm: str,
        path: str,
        *,
        clock: Clock,
        check: Callable[[], None],
        progress: Callable[[MergeProgress], None] | None,
        digests: bool,
        withholder: Withholder,
    ) -> None:
        self._workspace = _workspace(remote, vm, path)
        self._vm = vm
        self._path = path
        self._clock = clock
        self._check = check
        self._withholder = withholder
        self._progress = progress
        self._digests = DigestStore(remote, vm, path) if digests else None
        self._options = MergeOptions(
            cancel=check,
            monotonic_s=clock.monotonic_s,
            workers_max=max(MergeOptions().workers_max, remote.capabilities.parallel),
        )
        self.lineage = self._read()
        self._changed = False
        """Since the lineage was read."""

    def run(self, listing: PointListing, report: MergeReport, *, begin: bool, memory: bool = False) -> None:
        """Resume, then everything else; each is planned from the directory as it is then."""
        for name in list(self.lineage.states):
            step = ReclaimStep(kind=StepKind.RESUME, lineage=self._path, names=(name,), reason="")
            if self._withholder.judge(self.lineage, ReclaimPlan(steps=(step,))).steps:
                self._resume(name, report)
                self._changed = True
        self._look_again()
        if self._digests is not None:
            self._digests.settle(self.lineage)
        forget_settled(self._workspace.remote, self._vm, self.lineage)
        plan = self._withholder.judge(self.lineage, plan_lineage(self.lineage, listing, memory=memory))
        report.refusals += plan.refusals
        for step in plan.steps:
            if step.kind is StepKind.RESUME:  # it could not be resumed, and was reported
                continue
            if step.kind is StepKind.MERGE and not begin:
                continue
            self._check()
            self._apply(step, report)
        self._look_again()

    def _look_again(self) -> None:
        if self._changed:
            self.lineage = self._read()
            self._changed = False

    def _read(self) -> Lineage:
        lineage = read_lineage(self._workspace, self._path, CODECS)
        return settled(self._workspace.remote, self._vm, lineage, now_s=self._clock.now_s())

    def _resume(self, state: str, report: MergeReport) -> None:
        root = root_of(state)
        assert root is not None, f"{state} was recognised as a state file"
        self._store_digests(root)
        try:
            result = resume_merge(self._workspace, root, CODECS, self._reporting((root,)))
        except VhdError as error:
            refusal = ReclaimRefusal(lineage=self._path, code="merge-not-resumable", reason=str(error))
            report.refusals.append(refusal)
            return
        self._merged(result, report, StepKind.RESUME, "a merge was interrupted")

    def _apply(self, step: ReclaimStep, report: MergeReport) -> None:
        self._changed = True
        if step.kind is StepKind.MERGE:
            self._prepare_digests(step.names, {})
            try:
                result = apply_merge(self._workspace, step.names, CODECS, self._reporting(step.names))
            except VhdError as error:
                report.refusals.append(ReclaimRefusal(lineage=self._path, code="merge-refused", reason=str(error)))
                return
            self._merged(result, report, StepKind.MERGE, step.reason)
            return
        if step.kind is StepKind.FORGET:
            self._forget()
            report.steps.append(step)
            return
        (name,) = step.names
        if step.kind is StepKind.LITTER:
            self._workspace.delete_tree(name) if self._is_directory(name) else self._workspace.delete(name)
            if name in self.lineage.orphan_data and not self._workspace.remote.capabilities.atomic_rename:
                forget_begun(self._workspace.remote, self._vm, self._path, name)
        else:
            self._delete(name)
        report.steps.append(step)

    def _merged(self, result: MergeResult, report: MergeReport, kind: StepKind, reason: str) -> None:
        report.bytes_moved += result.bytes_moved
        report.steps.append(ReclaimStep(kind=kind, lineage=self._path, names=result.chain, reason=reason))
        self._changed = True
        if self._digests is not None:
            self._look_again()
            self._digests.settle(self.lineage)
            self._digests.forget(result.chain[:-1])

    def _delete(self, name: str) -> None:
        """The alias first: objects that nothing names are litter, an alias to nothing would be damage."""
        member = self.lineage.members[name]
        self._workspace.delete(name)
        if member.data is not None:
            self._workspace.delete_tree(member.data)
        if self._digests is not None:
            self._digests.forget([name])

    def _forget(self) -> None:
        """The note last: what stops this before leaves it to the next merge."""
        remote = self._workspace.remote
        for directory in (self._workspace.path(""), digest_directory(self._vm, self._path)):
            with contextlib.suppress(NotFound):
                remote.delete_tree(directory)
        forget_memory(remote, self._vm, self._path)

    def _is_directory(self, name: str) -> bool:
        try:
            return self._workspace.remote.stat(self._workspace.path(name)).kind is Kind.DIRECTORY
        except NotFound:
            return False

    def _reporting(self, chain: tuple[str, ...]) -> MergeOptions:
        tell = self._progress
        if tell is None:
            return self._options

        def progress(told: Progress) -> None:
            tell(
                MergeProgress(
                    lineage=self._path,
                    chain=chain,
                    blocks_done=told.blocks_done,
                    blocks_total=told.blocks_total,
                    bytes_done=told.bytes_done,
                )
            )

        return replace(self._options, progress=progress)

    def _store_digests(self, root: str) -> None:
        """For a merge that is resumed: while the children are all there, their tables say who gives which block."""
        for state in read_states(self._workspace, CODECS) if self._digests is not None else ():
            begun = state.root == root and state.step is not Step.CLEANUP
            if begun and self._digests and not self._digests.waiting(state.target, root, state.target_uuid):
                self._prepare_digests(state.chain, {state.root: state.root_uuid}, resumed=True)

    def _prepare_digests(self, chain: tuple[str, ...], known: Mapping[str, UUID], *, resumed: bool = False) -> None:
        """Failing to is no reason not to merge: on a full remote it may be the merge that makes room."""
        if self._digests is not None:
            with contextlib.suppress(VhdError, RemoteError):
                prepare_digests(self._workspace, self._digests, chain, known, resumed=resumed)
