"""Which blocks of a VM are damaged, and whether their digest would prove a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from remotes.contract import Remote
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.layout import split_disk_path, vm_directory
from xobackup.repository.lineage import Lineage, MemberDisk, read_lineage
from xobackup.repository.listing import list_points
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.verified import Verified, read_verified
from xobackup.repository.verify_disk import Choice, DiskVerifier, blocks_of_disk
from xobackup.repository.workspace import RemoteWorkspace

MINUTE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedBlock:
    """Block ``index`` of the disk ``disk`` (a base name) in ``lineage``. ``digest``: what its data must have."""

    vm: str
    lineage: str
    disk: str
    uuid: UUID
    index: int
    digest: bytes
    points: tuple[str, ...] = ()
    """Ids of the restore points that read it."""

    @property
    def vdi(self) -> str:
        """The live disk's uuid."""
        return self.lineage.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return f"{vm_directory(self.vm)}/{self.lineage}/{self.disk} block {self.index}"


@dataclass(slots=True, kw_only=True)
class Damages:
    """What was found. ``hopeless``: sentences about damage that no digest can prove a copy of."""

    blocks: list[DamagedBlock] = field(default_factory=list)
    hopeless: list[str] = field(default_factory=list)
    read: int = 0


def find_damages(
    remote: Remote, vm: str, *, trusted_since_s: float | None = None, check: Callable[[], None] = lambda: None
) -> Damages:
    """Read the blocks of every disk that restore points of ``vm`` name; those that were verified after
    ``trusted_since_s`` (Unix time) are believed."""
    listing = list_points(remote, vm, use_cache=False)
    found = Damages()
    since = None if trusted_since_s is None else int(trusted_since_s) // MINUTE_S
    for path in sorted({split_disk_path(disk.path)[0] for point in listing.points for disk in point.disks}):
        _Search(remote, vm, path, found, since=since, check=check).run(listing.points)
    return found


class _Search:
    """Of one lineage."""

    def __init__(
        self, remote: Remote, vm: str, path: str, found: Damages, *, since: int | None, check: Callable[[], None]
    ) -> None:
        self._vm = vm
        self._path = path
        self._found = found
        self._since = since
        self._check = check
        self._workspace = RemoteWorkspace(remote, f"{vm_directory(vm)}/{path}")
        self._store = DigestStore(remote, vm, path)
        self._record = read_verified(remote, vm, path)

    def run(self, points: Iterable[RestorePoint]) -> None:
        lineage = read_lineage(self._workspace, self._path, CODECS)
        if _merging(lineage):
            self._hopeless("", "a merge is not finished; run `xobackup merge` first")
            return
        for name, unreadable in lineage.unreadable.items():
            self._hopeless(name, unreadable.message)
        users = _users(lineage, {point.id: name for point in points for name in _disks(point, self._path)})
        for name in sorted(lineage.members, reverse=True):
            self._disk(lineage.members[name], users.get(name, {}))

    def _disk(self, member: MemberDisk, users: dict[str, list[str]]) -> None:
        choice = _Damaged(self._record, self._since)
        verifier = _verifier(self._workspace, self._store, self._path, member, choice)
        verifier.users, verifier.check = users, self._check
        verifier.run()
        self._found.read += verifier.coverage.read
        for problem in verifier.problems:
            if problem.code == "block-lost":
                self._hopeless(member.name, f"block {problem.block} {problem.message}")
        wrong = set(choice.indexes)
        for index, entry in blocks_of_disk(self._workspace, member, self._store) if wrong else ():
            if index not in wrong:
                continue
            if entry is None or entry.bitmap is not None or not any(entry.digest):
                self._hopeless(member.name, f"block {index} is damaged, and no digest would prove a copy of it")
                continue
            self._found.blocks.append(
                DamagedBlock(
                    vm=self._vm,
                    lineage=self._path,
                    disk=member.name,
                    uuid=member.uuid,
                    index=index,
                    digest=entry.digest,
                    points=verifier.touched(index),
                )
            )

    def _hopeless(self, name: str, message: str) -> None:
        self._found.hopeless.append(f"{self._workspace.path(name)}: {message}")


def _merging(lineage: Lineage) -> bool:
    """Whether a merge is under way there, or something that looks like one."""
    return bool(lineage.states) or any(problem.code.startswith("merge-state") for problem in lineage.problems)


def _disks(point: RestorePoint, path: str) -> list[str]:
    return [name for directory, name in (split_disk_path(disk.path) for disk in point.disks) if directory == path]


def _users(lineage: Lineage, points: dict[str, str]) -> dict[str, dict[str, list[str]]]:
    """By disk the points that read from it, each with the disks above it there."""
    users: dict[str, dict[str, list[str]]] = {}
    for point, name in points.items():
        names = [member.name for member in lineage.chain(name) or ()]
        for at, each in enumerate(names):
            users.setdefault(each, {})[point] = names[at + 1 :]
    return users


def _verifier(
    workspace: RemoteWorkspace, store: DigestStore, path: str, member: MemberDisk, choice: Choice
) -> DiskVerifier:
    return DiskVerifier(
        workspace=workspace,
        member=member,
        merging=False,
        store=store,
        lineage=path,
        users={},
        check=lambda: None,
        choice=choice,
    )


class _Damaged:
    """The choice of a :class:`DiskVerifier` that remembers what was not whole."""

    def __init__(self, record: Verified, since: int | None) -> None:
        self.indexes: list[int] = []
        self._record = record
        self._since = since

    def has(self, index: int, mark: int) -> bool:
        return self._since is None or self._record.when(index, mark) < self._since

    def note(self, index: int, mark: int, *, whole: bool) -> None:
        if not whole:
            self.indexes.append(index)


def still_damaged(remote: Remote, block: DamagedBlock) -> bool:
    """Whether the block is there, in that disk, and is not what its digest says."""
    workspace = RemoteWorkspace(remote, f"{vm_directory(block.vm)}/{block.lineage}")
    lineage = read_lineage(workspace, block.lineage, CODECS)
    member = lineage.members.get(block.disk)
    if _merging(lineage) or member is None or member.uuid != block.uuid:
        return False
    store = DigestStore(remote, block.vm, block.lineage)
    choice = _Only(block.index)
    _verifier(workspace, store, block.lineage, member, choice).run()
    digests = store.get(block.disk, block.uuid)
    entry = digests.get(block.index) if digests is not None else None
    known = entry is not None and entry.bitmap is None and entry.digest == block.digest
    return known and choice.whole is False


class _Only:
    def __init__(self, index: int) -> None:
        self.whole: bool | None = None
        self._index = index

    def has(self, index: int, mark: int) -> bool:
        return index == self._index

    def note(self, index: int, mark: int, *, whole: bool) -> None:
        self.whole = whole
