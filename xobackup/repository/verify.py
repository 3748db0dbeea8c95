"""Verify restore points: do they name whole disks, and do the disks hold what was written?

*Structure*, always: every JSON reads; every disk it names opens, has the right uuid and size, and builds on parents
that are there; no block lies where none may; every block object of a VHD directory exists. *Digests*, all of them or
a fraction: blocks are read and compared with what was noted when they were written. Which blocks a fraction takes
depends on the seed alone, so that runs with different seeds cover different blocks, and one can be repeated. The
image of a full backup is read whole or, for the images that a fraction leaves out, only looked at
(:mod:`xobackup.repository.images.verify`).

What could not be read is ``unknown``, not damage. A block without a digest (written by Xen Orchestra, or our digests
were lost) is read all the same, and counted apart: the coverage says how much of the answer rests on digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from remotes.contract import Remote
from remotes.errors import RemoteError
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.errors import PointNotFound
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.images.verify import verify_image
from xobackup.repository.layout import metadata_name, point_id, split_disk_path, vm_directory
from xobackup.repository.lineage import Lineage, read_lineage
from xobackup.repository.listing import list_points
from xobackup.repository.metadata import MODE_FULL, RestorePoint
from xobackup.repository.parallel import map_parallel
from xobackup.repository.slices import Share, Slice
from xobackup.repository.verify_disk import Coverage, DiskVerifier
from xobackup.repository.verify_selection import Selection
from xobackup.repository.workspace import RemoteWorkspace

WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyProgress:
    """How far a verification is."""

    vm: str
    disks_done: int
    disks_total: int
    bytes_read: int


@dataclass(slots=True, kw_only=True)
class VerifyReport:
    """What was found, and how much was looked at."""

    problems: list[Problem] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    points: list[str] = field(default_factory=list)
    """``<vm>/<ts>`` of the points that were verified."""

    @property
    def damaged(self) -> bool:
        return any(problem.severity is Severity.DAMAGE for problem in self.problems)

    def add(self, other: VerifyReport) -> None:
        self.problems += other.problems
        self.points += other.points
        self.coverage = self.coverage.plus(other.coverage)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """``fraction`` of the blocks to read: 0 for structure only, 1 for all; or a ``slice`` of them."""

    fraction: float = 1.0
    seed: int = 0
    slice: Slice | None = None
    remember: bool = False
    """Write down under ``.xobackup/`` what was found whole, for later slices and for the coverage."""
    workers: int = WORKERS
    progress: Callable[[VerifyProgress], None] = lambda _: None
    check: Callable[[], None] = lambda: None
    """Called between blocks; raises to stop."""

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"a fraction lies between 0 and 1, got {self.fraction}")


def verify_vm(
    remote: Remote, vm: str, options: VerifyOptions, *, now_s: float, points: Iterable[str] | None = None
) -> VerifyReport:
    """Verify the restore points ``points`` (all by default) of ``vm``, and whatever their disks build on."""
    listing = list_points(remote, vm, use_cache=False)
    wanted = None if points is None else {point_id(point) for point in points}
    for identity in sorted(wanted or ()):
        if listing.point(identity) is None and not any(identity in problem.path for problem in listing.problems):
            raise PointNotFound(vm, identity)
    verification = _Verification(remote, vm, options, now_s)
    verification.report.problems += [
        problem for problem in listing.problems if wanted is None or any(name in problem.path for name in wanted)
    ]
    chosen = [point for point in listing.points if wanted is None or point.id in wanted]
    verification.run(chosen, complete=wanted is None and listing.certain)
    return verification.report


class _Verification:
    """Of some points of one VM."""

    def __init__(self, remote: Remote, vm: str, options: VerifyOptions, now_s: float) -> None:
        self.report = VerifyReport()
        self._remote = remote
        self._vm = vm
        self._options = options
        slice_ = options.slice or Share(fraction=options.fraction, seed=options.seed)
        self._selection = Selection(remote, vm, slice_, now_s=now_s, remember=options.remember)

    def run(self, points: list[RestorePoint], *, complete: bool) -> None:
        report = self.report
        report.points = [f"{self._vm}/{point.id}" for point in points]
        paths = sorted({split_disk_path(disk.path)[0] for point in points for disk in point.disks})
        lineages = {path: self._lineage(path) for path in paths}
        for point in points:
            if point.mode != MODE_FULL:
                report.problems += _check_point(point, lineages)
        verifiers = [
            verifier
            for path, lineage in lineages.items()
            if lineage is not None
            for verifier in self._verifiers(path, lineage, points)
        ]
        images = [point for point in points if point.mode == MODE_FULL]
        try:
            verifiers = self._selection.assign(verifiers)
            self._verify_disks(verifiers)
            whole = self._selection.images(images)
            for done, point in enumerate(images):
                counted = len(verifiers) + done, len(verifiers) + len(images)
                self._verify_image(point, *counted, whole=point.id in whole)
        except BaseException:
            self._selection.save(verifiers, (), complete=False)
            raise
        certain = complete and all(
            lineage is not None and lineage.certain and not lineage.states for lineage in lineages.values()
        )
        self._selection.save(verifiers, [point.id for point in images], complete=certain)

    def _workspace(self, path: str) -> RemoteWorkspace:
        return RemoteWorkspace(self._remote, f"{vm_directory(self._vm)}/{path}")

    def _lineage(self, path: str) -> Lineage | None:
        workspace = self._workspace(path)
        try:
            return read_lineage(workspace, path, CODECS)
        except RemoteError as error:
            where = workspace.path("")
            problem = Problem(code="lineage-unread", severity=Severity.UNKNOWN, path=where, message=error.problem)
            self.report.problems.append(problem)
            return None

    def _verifiers(self, path: str, lineage: Lineage, points: list[RestorePoint]) -> list[DiskVerifier]:
        """Every disk of the lineage that the points read from, each once."""
        chains: dict[str, list[str]] = {}
        for point in points:
            for disk in point.disks:
                directory, name = split_disk_path(disk.path)
                chain = lineage.chain(name) if directory == path else None
                if chain is not None:
                    chains[point.id] = [member.name for member in chain]
        options = self._options
        return [
            DiskVerifier(
                workspace=self._workspace(path),
                member=lineage.members[name],
                merging=name in lineage.merging(),
                store=DigestStore(self._remote, self._vm, path),
                lineage=path,
                users={point: names[names.index(name) + 1 :] for point, names in chains.items() if name in names},
                check=options.check,
            )
            for name in sorted({name for names in chains.values() for name in names})
        ]

    def _verify_disks(self, verifiers: list[DiskVerifier]) -> None:
        report = self.report
        results = map_parallel(DiskVerifier.run, verifiers, workers=self._options.workers)
        for done, verifier in enumerate(results, start=1):
            report.problems += verifier.problems
            report.coverage = report.coverage.plus(verifier.coverage)
            self._options.progress(
                VerifyProgress(
                    vm=self._vm,
                    disks_done=done,
                    disks_total=len(verifiers),
                    bytes_read=report.coverage.bytes_read,
                )
            )

    def _verify_image(self, point: RestorePoint, done: int, total: int, *, whole: bool) -> None:
        options, report = self._options, self.report
        before = report.coverage.bytes_read
        read = 0

        def told(count: int) -> None:
            nonlocal read
            read += count
            options.progress(
                VerifyProgress(vm=self._vm, disks_done=done, disks_total=total, bytes_read=before + read)
            )

        verdict = verify_image(self._remote, point, whole=whole, told=told, check=options.check)
        report.problems += verdict.problems
        if not verdict.unread:
            damaged = any(one.severity is Severity.DAMAGE for one in verdict.problems)
            if whole or damaged:
                self._selection.note_image(point.id, whole=not damaged)
        coverage = Coverage(
            images=1,
            images_compared=int(verdict.compared),
            image_bytes=verdict.bytes_read,
            unread=int(verdict.unread),
        )
        report.coverage = report.coverage.plus(coverage)


def _check_point(point: RestorePoint, lineages: dict[str, Lineage | None]) -> list[Problem]:
    """The JSON against its disks' headers."""
    path = metadata_name(point.vm_uuid, point.id)
    found: list[Problem] = []

    def say(code: str, severity: Severity, message: str) -> None:
        found.append(Problem(code=code, severity=severity, path=path, message=message, points=(point.id,)))

    size = 0
    for disk in point.disks:
        directory, name = split_disk_path(disk.path)
        lineage = lineages[directory]
        if lineage is None:
            continue
        if name in lineage.merging():
            say("merge-unfinished", Severity.INFO, f"{disk.path} is being merged, or was interrupted in it")
            continue
        unread = lineage.unreadable.get(name)
        if unread is not None and not unread.proven:
            say("disk-unread", Severity.UNKNOWN, f"{disk.path}: {unread.message}")
            continue
        member = lineage.members.get(name)
        why = lineage.broken_chain(name)
        if why is not None:
            say("chain-broken", Severity.DAMAGE, f"{disk.path}: {why}")
        if member is None:
            continue
        size += member.streamed_size_bytes
        if disk.vdi_uuid and disk.vdi_uuid != str(member.uuid):
            say("disk-uuid", Severity.DAMAGE, f"{disk.path}: expected uuid {disk.vdi_uuid}, found {member.uuid}")
        if disk.virtual_size and disk.virtual_size != member.virtual_size_bytes:
            sizes = f"expected {disk.virtual_size} bytes, found {member.virtual_size_bytes}"
            say("disk-size", Severity.DAMAGE, f"{disk.path}: {sizes}")
    known = all(
        split_disk_path(disk.path)[1] in (lineages[split_disk_path(disk.path)[0]] or _NOTHING).members
        for disk in point.disks
    )
    if known and point.size != size and not found:
        say("metadata-size", Severity.WARNING, f"says {point.size} bytes, its disks have {size}")
    return found


_NOTHING = Lineage(path="", members={})
