"""Read a chain out of its directory, also while a merge is under way there or was interrupted.

What a merge may have done by the time somebody reads, and how it is read nevertheless (state files: vhd.merge.state):

    files        the root's two footers differ, its uuid is the target's already: the copy at 0 decides, either
                 uuid will do. Children keep their blocks, so what changes in the root is shadowed.
    directories  a block object is gone from a child: it is in the root by then, or the child's bytes merged there.
    cleanup      the root is the target. While a disk of the root's name is there it is read for the target, whose
                 own data may be gone; afterwards the target's name means the merged disk.

The state files are read again for every missing block, because a merge may start after the chain was opened; and if
opening fails, it is tried again, because names may move in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.alias import is_alias, read_alias
from vhd.chain import Chain
from vhd.directory import VhdDirectory
from vhd.errors import VhdError
from vhd.merge.legacy import resolve_legacy
from vhd.merge.state import LegacyState, MergeState, Step, root_of, unpack_state
from vhd.workspace import open_disk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from vhd.codec import Codec
    from vhd.reader import VhdFile
    from vhd.workspace import Workspace

ATTEMPTS = 3
"""How often opening a chain is tried: a merge changes names twice at its end, and no faster than anybody opens."""


def read_states(workspace: Workspace, codecs: Mapping[str, Codec]) -> list[MergeState]:
    """The merges under way in ``workspace``. State files that make no sense speak of none."""
    states: list[MergeState] = []
    for name in workspace.names(""):
        if root_of(name) is None:
            continue
        try:
            state = unpack_state(workspace.get(name), name)
            if isinstance(state, LegacyState):
                state = resolve_legacy(workspace, state, codecs)
        except workspace.missing:  # finished a moment ago
            continue
        except VhdError:
            continue
        states.append(state)
    return states


class LineageOpener:
    """Opens the disks of one directory; a :class:`vhd.chain.ChainOpener`. One chain each."""

    def __init__(self, workspace: Workspace, codecs: Mapping[str, Codec]) -> None:
        self._workspace = workspace
        self._codecs = codecs
        self._states = read_states(workspace, codecs)
        self._opened: list[tuple[str, VhdDirectory]] = []
        """Directories by the names they were asked for, tip first."""
        self._moved: dict[str, VhdDirectory] = {}
        """By a directory's path: where its missing blocks were found the last time."""

    def open(self, name: str) -> VhdFile | VhdDirectory | None:
        found = self.place_of(name)
        named_by_state = any(found in state.chain for state in self._states)
        try:
            disk = open_disk(self._workspace, found, self._codecs, trailing_footer=not named_by_state)
        except self._workspace.missing:
            if self._workspace.exists(found):
                raise  # the disk is there, a part of it is not
            return None
        if isinstance(disk, VhdDirectory):
            disk.moved_to = self.moved_block
            self._opened.append((found, disk))
        return disk

    def place_of(self, name: str) -> str:
        """The name under which the disk ``name`` is to be opened: the root's, once that is the target."""
        for state in self._states:
            if state.step is Step.CLEANUP and name == state.target and self._workspace.exists(state.root):
                return state.root
        return name

    def uuids_of(self, name: str) -> frozenset[UUID]:
        """Further uuids the disk ``name`` goes by, because a merge into it is under way."""
        found: set[UUID] = set()
        for state in self._states:
            if name == state.root:
                found |= {state.root_uuid, state.target_uuid}
        return frozenset(found)

    def moved_block(self, disk: VhdDirectory, index: int) -> bytes | None:
        """The stored block ``index`` of ``disk`` from where a merge has moved it; ``None`` when none has."""
        known = self._moved.get(disk.path)
        if known is not None and (found := known.block_object(index)) is not None:
            return found
        root = self._merged_into(disk)
        if root is None:
            return None
        self._moved[disk.path] = root
        return root.block_object(index)

    def _merged_into(self, disk: VhdDirectory) -> VhdDirectory | None:
        names = [name for name, opened in self._opened if opened is disk]
        for state in read_states(self._workspace, self._codecs):
            if any(name in state.chain[1:] for name in names):
                return self._open_root(state)
        return self._finished_root(disk)

    def _open_root(self, state: MergeState) -> VhdDirectory | None:
        for name in (state.root, state.target):  # its name while merging, and at the very end
            if is_alias(name):
                try:
                    path = read_alias(self._workspace, name)
                    return VhdDirectory.open(self._workspace, path, self._codecs, missing=self._workspace.missing)
                except self._workspace.missing:
                    continue
        return None

    def _finished_root(self, disk: VhdDirectory) -> VhdDirectory | None:
        """The disk below that has become this one, or one above it, since the chain was opened."""
        directories = [opened for _, opened in self._opened]
        at = next(position for position, opened in enumerate(directories) if opened is disk)
        taken = {opened.footer.uuid for opened in directories[: at + 1]}
        for below in directories[at + 1 :]:
            try:
                now = VhdDirectory.open(self._workspace, below.path, self._codecs, missing=self._workspace.missing)
            except self._workspace.missing:
                continue
            if now.footer.uuid in taken:
                return now
        return None


def open_chain(
    workspace: Workspace, tip_name: str, codecs: Mapping[str, Codec], *, check_uuids: bool = True
) -> Chain:
    """The chain that ends in ``tip_name``; see the module's head. Errors as :meth:`vhd.chain.Chain.open`."""
    moving: tuple[type[BaseException], ...] = (VhdError, *workspace.missing)
    for attempt in range(ATTEMPTS):
        opener = LineageOpener(workspace, codecs)
        try:
            return Chain.open(opener, tip_name, check_uuids=check_uuids, also_known_as=opener.uuids_of)
        except moving:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
