"""Differential restores: a disk starts as a clone of a snapshot that survives on its SR, and only the blocks in which
the wanted restore point differs from that snapshot are written.

A snapshot counts as a base only if some restore point of the same VM, job and disk says that it *is* that snapshot:
its uuid is the one under which the disk was published. The blocks in which two points of one chain differ are those
of the members between them, in either direction. Whatever is in doubt (a merge under way, another size, a chain that
does not hold both) is no base, and the reason is told. The snapshot itself is never written to: what it holds on the
SR is trusted, not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from remotes.errors import RemoteError
from vhd.block import BLOCK_BYTES, blank
from vhd.errors import VhdError
from xobackup.engine.errors import UsageError
from xobackup.engine.readahead import FarAway
from xobackup.repository.errors import RepositoryError
from xobackup.repository.layout import split_disk_path
from xobackup.repository.metadata import MODE_FULL
from xobackup.xapi.image_format import ImageFormat, image_format_of

if TYPE_CHECKING:
    from uuid import UUID

    from vhd.block import Bitmap, BlockBuffer, Disk
    from vhd.footer import Footer
    from xobackup.engine.restore.plan import DiskRestore, RestorePlan
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

Record = Mapping[str, Any]


GONE = "no snapshot of it that a restore point names is left on the pool"


class Differential(StrEnum):
    """Whether to use what survives: wherever it is safe, not at all, or for every disk or nothing."""

    AUTO = "auto"
    NEVER = "never"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A snapshot to start from. ``indexes``: the blocks that differ, ascending."""

    vdi_ref: str
    vdi_uuid: str
    point_id: str
    indexes: tuple[int, ...]
    required: bool = False
    """Fail rather than restore the disk whole."""

    @property
    def write_bytes(self) -> int:
        """At most what is written."""
        return len(self.indexes) * BLOCK_BYTES


class _Member(Protocol):
    @property
    def footer(self) -> Footer: ...

    @property
    def virtual_size_bytes(self) -> int: ...

    def block_indexes(self) -> list[int]: ...


def differing_blocks(wanted: Sequence[_Member], base: Sequence[_Member]) -> tuple[int, ...] | str:
    """The blocks in which two chains (root first) may differ, or why that cannot be told."""
    shorter, longer = sorted((wanted, base), key=len)
    if [_uuid(one) for one in longer[: len(shorter)]] != [_uuid(one) for one in shorter]:
        return "the two are not of one chain"
    if len({one.virtual_size_bytes for one in (shorter[-1], *longer[len(shorter) :])}) != 1:
        return "the disk had another size then"
    found: set[int] = set()
    for member in longer[len(shorter) :]:
        found.update(member.block_indexes())
    return tuple(sorted(found))


def _uuid(member: _Member) -> UUID:
    return member.footer.uuid


def refuse_base(snapshot: Record, *, sr_ref: str, size_bytes: int, holders: Sequence[Record]) -> str:
    """Why a VDI cannot be started from; empty when it can. ``holders``: the VMs that have it."""
    if not snapshot.get("is_a_snapshot"):
        return "it is not a snapshot"
    if snapshot.get("SR") != sr_ref:
        return "it is on another SR"
    if not snapshot.get("managed", True) or snapshot.get("missing"):
        return "it is not a usable disk"
    if snapshot.get("type") == "cbt_metadata":
        return "its data are gone, only its changed blocks are known"
    if image_format_of(snapshot) is not ImageFormat.VHD:
        return "it is kept in qcow2"
    if int(snapshot.get("virtual_size", -1)) != size_bytes:
        return f"expected {size_bytes} bytes, found {snapshot.get('virtual_size')}"
    if any(not holder.get("is_a_snapshot") and not holder.get("is_control_domain") for holder in holders):
        return "a VM has it as its disk and may have written to it"
    return ""


def with_bases(
    session: Session, repository: Repository, plan: RestorePlan, points: Sequence[RestorePoint], how: Differential
) -> RestorePlan:
    """``plan`` with a base for each disk that has one. Raises :class:`UsageError` if one required is missing."""
    if how is Differential.NEVER:
        return plan
    if plan.point.mode == MODE_FULL:
        if how is Differential.REQUIRE:
            raise UsageError(
                f"restore point {plan.point.id} is a full backup, an archive: no disk of it can be differential"
            )
        return plan
    vdis = {str(one.get("uuid")): (ref, one) for ref, one in session.records("VDI").items()}
    vbds, vms = session.records("VBD"), session.records("VM")

    def holders(vdi: Record) -> list[Record]:
        return [vms.get(vbds.get(ref, {}).get("VM", ""), {}) for ref in vdi.get("VBDs") or ()]

    disks: list[DiskRestore] = []
    for disk in plan.disks:
        found: list[Base] = []
        reasons: list[str] = []
        for other, there in _surviving(plan.point, disk.disk, points, vdis):
            ref, record = vdis[there.vdi_uuid]
            why = refuse_base(record, sr_ref=disk.sr_ref, size_bytes=disk.disk.virtual_size, holders=holders(record))
            indexes = why or _difference(repository, plan.point, disk.disk, other, there)
            if isinstance(indexes, str):
                reasons.append(f"snapshot {there.vdi_uuid} of {other.id}: {indexes}")
            else:
                required = how is Differential.REQUIRE
                found.append(
                    Base(
                        vdi_ref=ref,
                        vdi_uuid=there.vdi_uuid,
                        point_id=other.id,
                        indexes=indexes,
                        required=required,
                    )
                )
        base = min(found, key=lambda one: len(one.indexes), default=None)
        reason = "" if base else "; ".join(reasons) or GONE
        if base is None and how is Differential.REQUIRE:
            message = f"disk {disk.disk.name_label or disk.disk.live_vdi_uuid}: it cannot be differential: {reason}"
            raise UsageError(message, hint="restore it whole: --differential auto or never")
        disks.append(replace(disk, base=base, full_reason=reason))
    return replace(plan, disks=tuple(disks))


def _surviving(
    point: RestorePoint, disk: PointDisk, points: Sequence[RestorePoint], vdis: Mapping[str, object]
) -> Iterator[tuple[RestorePoint, PointDisk]]:
    """Restore points whose snapshot of the disk is still there."""
    directory, _ = split_disk_path(disk.path)
    for other in points:
        if other.vm_uuid != point.vm_uuid or other.mode == MODE_FULL:
            continue
        for there in other.disks:
            if there.vdi_uuid in vdis and not there.memory and split_disk_path(there.path)[0] == directory:
                yield other, there


def _difference(
    repository: Repository, point: RestorePoint, disk: PointDisk, other: RestorePoint, there: PointDisk
) -> tuple[int, ...] | str:
    """The blocks in which the two differ; decided only while no merge moves any."""
    _, job, live = split_disk_path(disk.path)[0].split("/")
    before = repository.lineage(point.vm_uuid, job, live)
    wanted = repository.open_disk(point, disk.vdi_ref)
    try:
        try:
            base = repository.open_disk(other, there.vdi_ref)
        except (VhdError, RemoteError, RepositoryError) as error:  # the wanted point may be whole all the same
            return f"its backup cannot be read: {error}"
        try:
            if str(_uuid(base.members[-1])) != there.vdi_uuid:
                return f"its backup has uuid {_uuid(base.members[-1])}"
            found = differing_blocks(wanted.members, base.members)
        finally:
            base.close()
        after = repository.lineage(point.vm_uuid, job, live)
    finally:
        wanted.close()
    if before.states or after.states or dict(before.members) != dict(after.members):
        return "its chain is being merged or changed"
    return found


class Whole:
    """A disk in which every sector of every block is told, zeros included: what a base holds there must not show."""

    def __init__(self, disk: Disk, indexes: Sequence[int]) -> None:
        self._disk = disk
        self._own = frozenset(disk.block_indexes())
        self._indexes = list(indexes)
        self.parallel = disk.parallel if isinstance(disk, FarAway) else 1

    @property
    def name(self) -> str:
        return self._disk.name

    @property
    def virtual_size_bytes(self) -> int:
        return self._disk.virtual_size_bytes

    def block_indexes(self) -> list[int]:
        return self._indexes

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        if index in self._own:
            self._disk.read_block(index, buffer)  # sectors that no disk of the chain has are zeros in the buffer
        else:
            blank(buffer.data)
        return None
