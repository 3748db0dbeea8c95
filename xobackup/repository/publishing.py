"""Announce a restore point: every disk first, its JSON last, never over another one.

Order, each step durable before the next: the disks' parts are judged (whole, the right uuid, linked to a parent that
is there and has no other child); they are renamed to their names (a directory's objects into ``data/``, then the
alias); the JSON is put where none was. A crash before the JSON leaves disks that no restore point names: the next
merge takes them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from remotes.contract import Remote
from remotes.errors import AlreadyExists, NotFound
from vhd.alias import alias_text, is_alias
from vhd.directory import VhdDirectory
from vhd.errors import VhdError
from vhd.parents import parent_names
from vhd.reader import VhdFile
from vhd.workspace import open_disk
from xobackup.repository.begun import forget_begun
from xobackup.repository.caching import drop_cache, write_cache
from xobackup.repository.codecs import CODECS
from xobackup.repository.draft import complete, encode
from xobackup.repository.errors import BadMetadata, Refused
from xobackup.repository.layout import (
    checked_disk_path,
    checked_disk_uuid,
    checked_uuid,
    data_name,
    metadata_name,
    point_of_disk,
    split_disk_path,
    timestamp_name,
    vm_directory,
)
from xobackup.repository.lineage import Lineage, MemberDisk, member_of, read_lineage
from xobackup.repository.listing import list_points
from xobackup.repository.metadata import RestorePoint, point_from
from xobackup.repository.workspace import RemoteWorkspace
from xobackup.repository.writer import part_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """One disk of the point: where it is, and where it goes."""

    ref: str
    lineage: str
    workspace: RemoteWorkspace
    name: str
    part: str | None
    """``None`` when it has its name already (an earlier attempt of this publication)."""
    member: MemberDisk


def refuse_taken(remote: Remote, vm: str, point: str) -> None:
    """:class:`Refused` when the second of ``point`` has a restore point already."""
    name = metadata_name(vm, point)
    try:
        remote.stat(name)
    except NotFound:
        return
    raise Refused("same-second", name, "there is a restore point of this second already")


def publish(remote: Remote, vm: str, draft: Mapping[str, Any], *, check: Callable[[], None]) -> RestorePoint:
    """Publish the point that ``draft`` describes; see the module's head. ``check`` raises when the lock is lost."""
    point = timestamp_name(draft.get("timestamp", -1))
    name = metadata_name(vm, point)
    refuse_taken(remote, vm, point)
    publication = _Publication(remote=remote, vm=vm, point=point, name=name, draft=draft)
    planned = [publication.plan(ref, path) for ref, path in publication.paths().items()]
    metadata = complete(
        draft,
        name,
        size=sum(disk.member.streamed_size_bytes for disk in planned),
        differencing={disk.ref: disk.member.differencing for disk in planned},
    )
    raw = encode(metadata, name)
    published = point_from(metadata, vm=vm, name=name)
    check()
    for disk in planned:
        _announce(disk)
        if is_alias(disk.name) and not remote.capabilities.atomic_rename:
            forget_begun(remote, vm, disk.lineage, data_name(disk.name))
    check()
    drop_cache(remote, vm)
    try:
        remote.put(name, raw, replace=False)
    except AlreadyExists:
        raise Refused("same-second", name, "there is a restore point of this second already") from None
    write_cache(remote, vm, list_points(remote, vm, use_cache=False))
    return published


@dataclass(frozen=True, slots=True, kw_only=True)
class _Publication:
    """What is to be published, before anything is changed."""

    remote: Remote
    vm: str
    point: str
    name: str
    draft: Mapping[str, Any]

    def paths(self) -> dict[str, str]:
        """The disks' paths by VDI ref, checked."""
        paths = self.draft.get("vhds")
        if not isinstance(paths, dict) or (not paths and self.draft.get("vdis")):
            raise BadMetadata(self.name, "cannot be published without its disks")
        checked = {ref: checked_disk_path(path) for ref, path in paths.items()}
        if len(set(checked.values())) != len(checked):
            raise BadMetadata(self.name, "two of its disks have the same path")
        return checked

    def plan(self, ref: str, path: str) -> _Planned:
        """Judge one disk. Raises :class:`Refused` or :class:`BadMetadata`."""
        directory, base = split_disk_path(path)
        _, job, vdi = directory.split("/")
        checked_uuid("job", job)
        checked_uuid("disk", vdi)
        if job != self.draft.get("jobId"):
            raise BadMetadata(self.name, f"disk {path} is not of job {self.draft.get('jobId')}")
        if point_of_disk(base) != self.point:
            raise BadMetadata(self.name, f"disk {path} is not named by the point's time {self.point}")
        expected = self._uuid(ref)
        workspace = RemoteWorkspace(self.remote, f"{vm_directory(self.vm)}/{directory}")
        member, part = _find(workspace, base, f"{vm_directory(self.vm)}/{path}")
        if str(member.uuid) != expected:
            raise Refused("disk-uuid", path, f"expected the snapshot's uuid {expected}, found {member.uuid}")
        _check_place(read_lineage(workspace, directory, CODECS), member, path)
        return _Planned(ref=ref, lineage=directory, workspace=workspace, name=base, part=part, member=member)

    def _uuid(self, ref: str) -> str:
        vdis = self.draft.get("vdis")
        record = vdis.get(ref) if isinstance(vdis, dict) else None
        if not isinstance(record, dict):
            raise BadMetadata(self.name, f"disk {ref} has no record in vdis")
        return checked_disk_uuid(f"vdis.{ref}.uuid", record.get("uuid"))


def _find(workspace: RemoteWorkspace, base: str, path: str) -> tuple[MemberDisk, str | None]:
    """The disk, as a part or under its name already, opened and judged."""
    places = [part_of(workspace, base), base]
    if is_alias(base):
        places.insert(1, data_name(base))  # an earlier attempt came as far as that
    for place in places:
        try:
            disk = _open(workspace, base, place)
        except NotFound:
            continue
        except VhdError as error:
            raise Refused("disk-broken", path, f"it is not whole: {error}") from error
        try:
            return member_of(workspace, base, disk, place), None if place == base else place
        finally:
            disk.close()
    raise Refused("disk-missing", path, "the point names this disk, but it was never finished")


def _open(workspace: RemoteWorkspace, base: str, place: str) -> VhdFile | VhdDirectory:
    if place == base:
        return open_disk(workspace, base, CODECS)
    if is_alias(base):
        return VhdDirectory.open(workspace, place, CODECS, missing=workspace.missing)
    file = workspace.open(place)
    try:
        return VhdFile.open(file)
    except BaseException:
        file.close()
        raise


def _check_place(lineage: Lineage, member: MemberDisk, path: str) -> None:
    """The newest name; a whole chain below; no sibling."""
    later = [name for name in (*lineage.members, *lineage.unreadable) if name > member.name]
    if later:
        raise Refused("not-newest", path, f"{later[-1]} is newer: names must grow with time")
    if not member.differencing:
        return
    for name in parent_names(member.name, member.parents):
        parent = lineage.members.get(name)
        if parent is None:
            continue
        if parent.uuid != member.parent_uuid:
            raise Refused("parent-uuid", path, f"expected parent {member.parent_uuid}, {name} is {parent.uuid}")
        why = lineage.broken_chain(name)
        if why:
            raise Refused("chain-broken", path, f"its parent's chain is broken: {why}")
        siblings = [other for other in lineage.children().get(name, []) if other != member.name]
        if siblings:
            raise Refused("fork", path, f"{name} was continued by {', '.join(siblings)} already")
        return
    raise Refused("parent-missing", path, f"its parent {member.parents[0] if member.parents else ''} is missing")


def _announce(disk: _Planned) -> None:
    """Give the disk its name."""
    if disk.part is None:
        return
    if not is_alias(disk.name):
        disk.workspace.move_to_new(disk.part, disk.name)
        return
    data = data_name(disk.name)
    if disk.part != data:
        disk.workspace.move_to_new(disk.part, data)
    disk.workspace.put(disk.name, alias_text(disk.name, data))
