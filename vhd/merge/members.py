"""The disks of a merge, opened and judged: what may not be merged is refused before anything changes.

Refused with :class:`vhd.errors.MergeError`: fewer than two disks; files and directories mixed; children that are not
differencing, or not linked by name and uuid; a child smaller than its parent; a fixed root; a fork (another disk
that builds on one that is to disappear), also a possible one (another disk that cannot be read).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vhd.alias import is_alias, read_alias
from vhd.bat import Bat
from vhd.directory import BLOCKS_PER_DIRECTORY, VhdDirectory
from vhd.directory_writer import VhdDirectoryUpdater
from vhd.errors import MergeError, VhdError
from vhd.layout import ADDRESS_MAX_BYTES
from vhd.merge.plan import MemberFacts, MergePlan, plan_merge
from vhd.parents import parent_names
from vhd.reader import VhdFile, read_footer, read_header
from vhd.updater import VhdFileUpdater
from vhd.workspace import is_disk, open_disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from vhd.codec import Codec
    from vhd.footer import Footer
    from vhd.header import Header
    from vhd.merge.state import MergeState
    from vhd.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMembers:
    """A chain of VHD files, the root open for change."""

    names: tuple[str, ...]
    root: VhdFileUpdater
    children: list[VhdFile]

    @property
    def disks(self) -> Sequence[VhdFile]:
        return [self.root.disk, *self.children]

    def close(self) -> None:
        self.root.file.close()
        for child in self.children:
            child.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryMembers:
    """A chain of VHD directories, the root open for change."""

    names: tuple[str, ...]
    root: VhdDirectoryUpdater
    children: list[VhdDirectory]

    @property
    def disks(self) -> Sequence[VhdDirectory]:
        return [self.root, *self.children]

    def close(self) -> None:
        """Nothing is held open."""


Members = FileMembers | DirectoryMembers


def _disks(members: Members) -> list[VhdFile | VhdDirectory]:
    return [*members.disks]


def open_members(workspace: Workspace, chain: Sequence[str], codecs: Mapping[str, Codec]) -> Members:
    """Open the disks ``chain`` (root first). Raises :class:`MergeError` when one is missing."""
    names = tuple(chain)
    if len(names) < 2 or len(set(names)) != len(names):
        raise MergeError(names[0] if names else "nothing", "a merge takes at least two different disks")
    kinds = {is_alias(name) for name in names}
    if len(kinds) != 1:
        raise MergeError(names[0], "its chain mixes VHD files and VHD directories")
    for name in names:
        if not workspace.exists(name):
            raise MergeError(names[0], f"{name} is missing")
    return _open_directories(workspace, names, codecs) if kinds == {True} else _open_files(workspace, names)


def _open_files(workspace: Workspace, names: tuple[str, ...]) -> FileMembers:
    opened: list[VhdFile] = []
    try:
        for name in names[1:]:
            file = workspace.open(name)
            try:
                opened.append(VhdFile.open(file))
            except BaseException:
                file.close()
                raise
        target = workspace.update(names[0])
        try:
            return FileMembers(names=names, root=VhdFileUpdater.open(target), children=opened)
        except BaseException:
            target.close()
            raise
    except BaseException:
        for disk in opened:
            disk.close()
        raise


def _open_directories(workspace: Workspace, names: tuple[str, ...], codecs: Mapping[str, Codec]) -> DirectoryMembers:
    missing = workspace.missing
    paths = [read_alias(workspace, name) for name in names]
    if len(set(paths)) != len(paths):
        raise MergeError(names[0], "two aliases of its chain stand for the same directory")
    root = VhdDirectoryUpdater.open(workspace, paths[0], codecs, missing=missing)
    children = [VhdDirectory.open(workspace, path, codecs, missing=missing) for path in paths[1:]]
    return DirectoryMembers(names=names, root=root, children=children)


def plan_members(members: Members) -> MergePlan:
    """The plan for disks that passed :func:`check_members`."""
    facts = [
        MemberFacts(
            name=name,
            footer=disk.footer,
            table_entries=disk.header.table_entries if disk.header is not None else 0,
            blocks=disk.block_indexes(),
        )
        for name, disk in zip(members.names, _disks(members), strict=True)
    ]
    return plan_merge(facts)


def check_members(members: Members, *, state: MergeState | None, check_uuids: bool) -> None:
    """Raise :class:`MergeError` unless the chain is one. ``state``: of the merge that is resumed."""
    root, *children = _disks(members)
    if root.header is None:
        raise MergeError(members.names[0], "a fixed disk cannot take blocks")
    known = {root.footer.uuid}
    if state is not None:
        known = _known_uuids(members, root.footer, children[-1].footer, state)
    below: Footer | None = None if state is not None and root.footer.uuid == state.target_uuid else root.footer
    for name, parent, child in zip(members.names[1:], members.names, children, strict=False):
        _check_link(name, parent, child, known if check_uuids else None)
        if below is not None and child.footer.current_size_bytes < below.current_size_bytes:
            sizes = f"{child.footer.current_size_bytes} bytes, its parent {below.current_size_bytes}"
            raise MergeError(name, f"the disk was made smaller: it has {sizes}")
        below, known = child.footer, {child.footer.uuid}


def _known_uuids(members: Members, root: Footer, target: Footer, state: MergeState) -> set[UUID]:
    if target.uuid != state.target_uuid:
        problem = f"the state file means a disk of uuid {state.target_uuid}, found {target.uuid}"
        raise MergeError(members.names[-1], problem)
    known = {state.root_uuid, state.target_uuid}
    if root.uuid not in known:
        problem = f"the state file means a disk of uuid {state.root_uuid}, found {root.uuid}"
        raise MergeError(members.names[0], problem)
    return known


def _check_link(name: str, parent: str, child: VhdFile | VhdDirectory, known: set[UUID] | None) -> None:
    if child.header is None or not child.footer.differencing:
        raise MergeError(name, "is no differencing disk, so there is nothing below it to merge with")
    if parent not in parent_names(name, child.parent_candidates()):
        raise MergeError(name, f"does not build on {parent}, but on {child.parent_name()!r}")
    if known is not None and child.header.parent_uuid not in known:
        found = ", ".join(str(uuid) for uuid in sorted(known))
        raise MergeError(name, f"builds on a disk of uuid {child.header.parent_uuid}, but {parent} has {found}")


def check_room(members: Members, plan: MergePlan) -> None:
    """Raise :class:`MergeError` when the root would outgrow what a VHD file can address."""
    if isinstance(members, FileMembers):
        needed = members.root.file.size() + plan.bytes_to_grow
        if needed > ADDRESS_MAX_BYTES:
            raise MergeError(members.names[0], f"would take {needed} bytes, a VHD file ends at {ADDRESS_MAX_BYTES}")


def check_blocks(members: Members, plan: MergePlan) -> None:
    """Raise :class:`MergeError` when a block that is to be merged has no object. Before a merge begins: later on a
    missing one is taken for one that has moved already, and an older one of the root would stand in for it."""
    if isinstance(members, FileMembers):
        return
    there: dict[tuple[int, int], set[str]] = {}
    for index, position in zip(plan.indexes, plan.newest, strict=True):
        disk = members.disks[position]
        group, name = divmod(index, BLOCKS_PER_DIRECTORY)
        if (position, group) not in there:
            try:
                there[position, group] = set(disk.store.names(f"{disk.path}/blocks/{group}"))
            except disk.missing:
                there[position, group] = set()
        if str(name) not in there[position, group]:
            raise MergeError(members.names[position], f"block {index} is in the table, but its object is missing")


def check_forks(workspace: Workspace, chain: Sequence[str], codecs: Mapping[str, Codec]) -> None:
    """Raise :class:`MergeError` if another disk builds on one that is about to change or go."""
    doomed = set(chain[:-1])
    for name in workspace.names(""):
        if not is_disk(name) or name in chain:
            continue
        try:
            found = doomed.intersection(_parents_of(workspace, name, codecs))
        except VhdError as error:
            problem = f"cannot tell whether {name} builds on its chain too ({error})"
            raise MergeError(chain[0], problem) from error
        if found:
            raise MergeError(chain[0], f"{name} builds on {sorted(found)[0]} too")


def _parents_of(workspace: Workspace, name: str, codecs: Mapping[str, Codec]) -> list[str]:
    """Where ``name`` looks for its parent; reads headers only."""
    if is_alias(name):
        return parent_names(name, open_disk(workspace, name, codecs).parent_candidates())
    file = workspace.open(name)
    try:
        footer, _ = read_footer(file, trailing_footer=False)
        header: Header | None = read_header(file, footer) if footer.differencing else None
        return parent_names(name, VhdFile(file, footer, header, Bat.empty(0)).parent_candidates())
    finally:
        file.close()
