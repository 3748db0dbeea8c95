"""What lies about in a VM's directory and its private files, and what could be done about it. Changes nothing.

Every finding carries its reason, a proposed action and whether the information suffices for it. Rules:

- If anything of the VM could not be read or understood (a JSON, a listing, a disk for want of access, a merge state),
  no deletion and no quarantine there is certain: what looks superfluous may belong to what could not be read.
- A disk whose bytes are *proven* wrong is not an uncertainty of the others; itself it can be set aside when no
  restore point needs it. Disks in the same lineage are left alone: one may be its parent.
- Backup data of unknown standing (whole directories nobody names, broken disks) is quarantined, that is moved to
  ``.xobackup/quarantine/``, never deleted. Deleted are only things that can be made again or were never published.
- A restore point with a missing disk is set aside only when none of its disks can be restored.
- A full backup whose image is missing is set aside; one whose image is cut off is only reported: what is left of
  the image may still give some of its disks. Images are measured here, not read: verifying does that.
- The directory of a memory image, known by its note, is deleted once no restore point names it.
- A merge that was interrupted is not dirt: merging resumes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from remotes.contract import Kind, Remote
from remotes.errors import NotFound, RemoteError
from xobackup.repository.begun import settled
from xobackup.repository.cache import PACKED_BYTES_MAX, unpack_cache
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import SUFFIX, WAITING, DigestStore
from xobackup.repository.errors import BadDigests
from xobackup.repository.findings import Action, CleanFinding, Severity, clean_finding
from xobackup.repository.images.clean import lost_image, orphan_images
from xobackup.repository.images.notes import noted_images
from xobackup.repository.layout import (
    CACHE,
    VDIS,
    cache_name,
    digest_directory,
    metadata_name,
    split_disk_path,
    vm_directory,
)
from xobackup.repository.lineage import Lineage, read_lineage
from xobackup.repository.listing import PointListing, list_points
from xobackup.repository.lock_rule import LockRule
from xobackup.repository.memory import noted_memory
from xobackup.repository.merging import lineage_paths
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.protection import Locks
from xobackup.repository.reclaim import StepKind, named_disks, plan_lineage
from xobackup.repository.withholding import HELD, Withholder
from xobackup.repository.workspace import RemoteWorkspace

_DOUBTFUL = frozenset({"disk-unread", "merge-state", "merge-state-unread", "data-unread"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything a plan is made from."""

    vm: str
    listing: PointListing
    lineages: dict[str, Lineage]
    memory: frozenset[str]
    """Lineages that hold a memory image and nothing else."""
    noted: frozenset[str]
    """Images on their way in or out."""
    doubts: tuple[str, ...]
    """What could not be read or understood; empty when nothing."""


def survey(remote: Remote, vm: str, *, now_s: float) -> Survey:
    """Read it all. Errors while reading become doubts."""
    listing = list_points(remote, vm, use_cache=False)
    doubts = [] if listing.certain else [str(p) for p in listing.problems if p.code != "foreign-file"]
    lineages: dict[str, Lineage] = {}
    noted = memory = frozenset[str]()
    try:
        memory = noted_memory(remote, vm)
        images = noted_images(remote, vm, now_s=now_s)
        noted = frozenset(images.settled)
        doubts += [f"the image {name} may be on its way" for name in images.busy]
        for path in lineage_paths(remote, vm):
            lineage = read_lineage(RemoteWorkspace(remote, f"{vm_directory(vm)}/{path}"), path, CODECS)
            lineages[path] = settled(remote, vm, lineage, now_s=now_s)
            doubts += [str(problem) for problem in lineages[path].problems if problem.code in _DOUBTFUL]
    except RemoteError as error:
        doubts.append(str(error))
    return Survey(vm=vm, listing=listing, lineages=lineages, memory=memory, noted=noted, doubts=tuple(doubts))


def plan_clean(remote: Remote, vm: str, *, now_s: float, rule: LockRule | None = None) -> list[CleanFinding]:
    """All findings about ``vm``, in the order of the directories. ``rule``: of a remote that locks."""
    withholder = Withholder(vm=vm, locks=Locks(remote, now_s=now_s), rule=rule)
    seen = survey(remote, vm, now_s=now_s)
    found = [
        *_root_findings(seen),
        *_cache_findings(remote, seen),
        *_point_findings(seen),
        *(finding for path in seen.lineages for finding in _lineage_findings(seen, path, withholder)),
        *(finding for path in _digest_lineages(remote, vm) for finding in _digest_findings(remote, seen, path)),
    ]
    return [_doubted(finding, seen.doubts) for finding in found]


def _doubted(finding: CleanFinding, doubts: tuple[str, ...]) -> CleanFinding:
    if not doubts or finding.action not in (Action.DELETE, Action.QUARANTINE):
        return finding
    reason = f"{finding.reason}; but not everything of this VM could be read: {doubts[0]}"
    return CleanFinding(problem=finding.problem, action=finding.action, certain=False, reason=reason)


def _root_findings(seen: Survey) -> Iterator[CleanFinding]:
    root = vm_directory(seen.vm)
    for name in seen.listing.leftovers:
        yield clean_finding("leftover", f"{root}/{name}", "left of an interrupted write", Action.DELETE)
    for problem in seen.listing.problems:
        reason = "somebody else's; Xen Orchestra will delete it" if problem.code == "foreign-file" else "look at it"
        yield CleanFinding(problem=problem, action=Action.NONE, certain=False, reason=reason)
    yield from orphan_images(seen.vm, seen.listing, seen.noted)


def _cache_findings(remote: Remote, seen: Survey) -> Iterator[CleanFinding]:
    if not any(entry.name == CACHE for entry in seen.listing.entries):
        return
    path = cache_name(seen.vm)
    try:
        cached = unpack_cache(remote.get(path, limit_bytes=PACKED_BYTES_MAX), vm=seen.vm)
    except RemoteError as error:
        yield clean_finding(
            "cache-unread", path, error.problem, Action.NONE, severity=Severity.UNKNOWN, certain=False
        )
        return
    true = {point.id: point.metadata for point in seen.listing.points}
    if cached is None:
        yield clean_finding("cache-broken", path, "damaged, or of another directory", Action.REBUILD)
    elif set(cached) != set(true):
        message = f"lists {len(cached)} restore points, {len(true)} are there"
        yield clean_finding("cache-stale", path, message, Action.REBUILD)
    elif cached != true:
        wrong = sorted(point for point in true if cached[point] != true[point])
        yield clean_finding(
            "cache-stale", path, f"tells otherwise than the JSON of {', '.join(wrong)}", Action.REBUILD
        )


def _point_findings(seen: Survey) -> Iterator[CleanFinding]:
    """Restore points that name disks or an image which are not there, or are broken."""
    for point in seen.listing.points:
        if point.xva is not None:
            yield from lost_image(seen.vm, seen.listing, point)
            continue
        bad = [disk.path for disk in point.disks if _lost(seen, disk.path)]
        if not bad:
            continue
        whole = len(point.disks) - len(bad)
        message = f"{len(bad)} of its {len(point.disks)} disks cannot be restored: {', '.join(bad)}"
        hopeless = whole == 0
        reason = "nothing of it can be restored" if hopeless else f"{whole} of its disks can still be restored"
        yield clean_finding(
            "point-incomplete",
            metadata_name(seen.vm, point.id),
            message,
            Action.QUARANTINE if hopeless else Action.NONE,
            reason=reason,
            certain=hopeless,
            severity=Severity.DAMAGE,
        )


def _lost(seen: Survey, path: str) -> bool:
    """Proven: the disk, or one it builds on, is missing or broken, and no merge explains it."""
    directory, name = split_disk_path(path)
    lineage = seen.lineages.get(directory)
    if lineage is None:
        return not seen.doubts
    if lineage.merging() or lineage.broken_chain(name) is None:
        return False
    return not any(not unreadable.proven for unreadable in lineage.unreadable.values())


def _lineage_findings(seen: Survey, path: str, withholder: Withholder) -> Iterator[CleanFinding]:
    lineage = seen.lineages[path]
    root = f"{vm_directory(seen.vm)}/{path}"
    named = named_disks(seen.listing, path)
    if not named and not lineage.states:
        yield _unreferenced(lineage, root, memory=path in seen.memory)
        return
    yield from _broken_disks(seen, lineage, root)
    for problem in lineage.problems:
        if problem.code not in ("disk-broken",):
            reason = "merging resumes or reports it" if problem.code.startswith("merge") else "look at it"
            yield CleanFinding(problem=problem, action=Action.NONE, certain=False, reason=reason)
    plan = withholder.judge(lineage, plan_lineage(lineage, seen.listing, memory=path in seen.memory))
    for step in plan.steps:
        (name, *_) = step.names
        if step.kind is StepKind.LITTER:
            yield clean_finding("leftover", f"{root}/{name}", step.reason, Action.DELETE)
        elif step.kind is StepKind.DELETE:
            yield clean_finding("disk-orphan", f"{root}/{name}", step.reason, Action.DELETE)
        else:
            what = "a merge waits to be resumed" if step.kind is StepKind.RESUME else f"can be merged: {step.reason}"
            yield clean_finding(
                "merge-due", f"{root}/{name}", what, Action.NONE, reason="merging does it", certain=False
            )
    for refusal in plan.refusals:
        severity = Severity.INFO if refusal.code == HELD else Severity.WARNING
        yield clean_finding(refusal.code, root, refusal.reason, Action.NONE, certain=False, severity=severity)


def _unreferenced(lineage: Lineage, root: str, *, memory: bool) -> CleanFinding:
    """A whole directory that no restore point names: of a disk that was removed, or of a first run that failed."""
    if lineage.fresh_data:
        message = "objects that no alias names yet, and no restore point"
        reason = "they may be those of a first backup that runs now"
        return clean_finding("vdi-directory-fresh", root, message, Action.NONE, reason=reason, certain=False)
    if not lineage.members and not lineage.unreadable and not lineage.orphan_data:
        message = "no disk in it, and no restore point names it"
        return clean_finding("vdi-directory-empty", root, message, Action.DELETE)
    if memory:
        message = "the memory of a VM whose restore point is gone"
        return clean_finding("memory-orphan", root, message, Action.DELETE)
    message = f"{len(lineage.members) + len(lineage.unreadable)} disks that no restore point names"
    return clean_finding("vdi-directory-unreferenced", root, message, Action.QUARANTINE)


def _broken_disks(seen: Survey, lineage: Lineage, root: str) -> Iterator[CleanFinding]:
    for name, unreadable in lineage.unreadable.items():
        if not unreadable.proven:
            continue
        users = [point.id for point in seen.listing.points if _builds_on(point, lineage, name)]
        if users:
            reason = f"restore points {', '.join(users)} name it"
            action, certain = Action.NONE, False
        elif name in lineage.merging():
            reason, action, certain = "a merge under way names it", Action.NONE, False
        else:
            reason, action, certain = "no restore point names it", Action.QUARANTINE, True
        yield clean_finding(
            "disk-broken",
            f"{root}/{name}",
            unreadable.message,
            action,
            reason=reason,
            certain=certain,
            severity=Severity.DAMAGE,
        )


def _builds_on(point: RestorePoint, lineage: Lineage, name: str) -> bool:
    """Whether the point names the disk, or one whose chain leads to it."""
    for disk in point.disks:
        directory, tip = split_disk_path(disk.path)
        if directory != lineage.path:
            continue
        seen: set[str] = set()
        at: str | None = tip
        while at is not None and at not in seen:
            if at == name:
                return True
            seen.add(at)
            member = lineage.members.get(at)
            at = member.parents[0] if member is not None and member.parents else None
    return False


def _digest_findings(remote: Remote, seen: Survey, path: str) -> Iterator[CleanFinding]:
    """Digest files without their disk. They are worth nothing then, and can be deleted."""
    lineage = seen.lineages.get(path, Lineage(path=path, members={}))
    if lineage.states or lineage.unreadable:
        return
    store = DigestStore(remote, seen.vm, path)
    members = {store.path(name): (name, member.uuid) for name, member in lineage.members.items()}
    for name in store.names():
        full = f"{store.directory}/{name}"
        if SUFFIX + WAITING in name and path in seen.lineages:
            continue  # merging settles them
        message = "its disk is gone" if full not in members else _digest_complaint(store, *members[full])
        if message:
            yield clean_finding("digests-stale", full, message, Action.DELETE, severity=Severity.INFO)


def _digest_complaint(store: DigestStore, disk: str, uuid: UUID) -> str | None:
    try:
        found = store.read(disk)
    except BadDigests as error:
        return f"damaged: {error.problem}"
    except RemoteError:
        return None
    return None if found is None or found.uuid == uuid else f"of another disk, {found.uuid}"


def _digest_lineages(remote: Remote, vm: str) -> list[str]:
    """Lineages that have digests, whether they have disks or not."""
    root = digest_directory(vm)
    try:
        jobs = [entry.name for entry in remote.list(root) if entry.kind is Kind.DIRECTORY]
        return [
            f"{VDIS}/{job}/{entry.name}"
            for job in jobs
            for entry in remote.list(f"{root}/{job}")
            if entry.kind is Kind.DIRECTORY
        ]
    except RemoteError:
        return []


def is_directory(remote: Remote, path: str) -> bool:
    """Whether ``path`` is there and a directory."""
    try:
        return remote.stat(path).kind is Kind.DIRECTORY
    except NotFound:
        return False
