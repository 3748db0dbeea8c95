"""The end of a merge: the children go, the root takes the target's name, the state file goes last.

Order: intermediates (a directory's alias, then its objects); the root's file or alias moves onto the target's name in
one step; a directory: the target's old objects, which no alias names any more; the state file. At every instant the
target's name, or the root's while that is still there, means the merged disk. After the move only one disk of the
chain is left, which Xen Orchestra takes for a finished merge.

Nothing is deleted unless the disk that stays has the target's identity.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from vhd.alias import ALIAS_SUFFIX, is_alias, read_alias
from vhd.directory import FOOTER, VhdDirectory
from vhd.errors import MergeError, VhdError
from vhd.merge.state import state_name
from vhd.parents import parent_names
from vhd.reader import VhdFile
from vhd.workspace import DATA, open_disk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vhd.codec import Codec
    from vhd.footer import Footer
    from vhd.merge.state import MergeState
    from vhd.workspace import Workspace


def finish_merge(workspace: Workspace, state: MergeState, codecs: Mapping[str, Codec]) -> Footer:
    """Do what is left of the step ``cleanup``; returns the merged disk's footer. Can be repeated."""
    kept = state.root if workspace.exists(state.root) else state.target
    footer = _check_kept(workspace, kept, state, codecs)
    for name in state.chain[1:-1]:
        _delete_disk(workspace, name)
    if kept == state.root:
        workspace.move(state.root, state.target)
    if is_alias(state.target):
        _delete_leftovers(workspace, state, codecs)
    workspace.delete(state_name(state.root))
    return footer


def _check_kept(workspace: Workspace, kept: str, state: MergeState, codecs: Mapping[str, Codec]) -> Footer:
    """The footer of the disk that stays. Raises :class:`MergeError` unless it is the merged one."""
    if not workspace.exists(kept):
        raise MergeError(state.root, f"neither it nor {state.target} is there")
    disk = open_disk(workspace, kept, codecs, trailing_footer=False)
    try:
        if disk.footer.uuid != state.target_uuid:
            problem = f"the merged disk should have uuid {state.target_uuid}, found {disk.footer.uuid}"
            raise MergeError(kept, problem)
        needed = set(parent_names(kept, disk.parent_candidates())).intersection(state.chain)
        if disk.footer.differencing and needed:
            raise MergeError(kept, f"the merged disk still builds on {sorted(needed)[0]}")
        _check_file_end(disk, kept)
        return disk.footer
    finally:
        disk.close()


def _check_file_end(disk: VhdFile | VhdDirectory, kept: str) -> None:
    """A merged file must be one for everybody: both footers equal."""
    if isinstance(disk, VhdFile):
        try:
            VhdFile.open(disk.file)
        except VhdError as error:
            raise MergeError(kept, f"the merged disk is not whole ({error})") from error


def _delete_disk(workspace: Workspace, name: str) -> None:
    """The alias first: objects that no alias names are litter, an alias to nothing is a broken disk to anybody."""
    path = read_alias(workspace, name) if is_alias(name) and workspace.exists(name) else None
    workspace.delete(name)
    if path is not None:
        workspace.delete_tree(path)


def _delete_leftovers(workspace: Workspace, state: MergeState, codecs: Mapping[str, Codec]) -> None:
    """Directories under ``data`` that no alias names and that were a disk of this merge."""
    try:
        names = [name for name in workspace.names("") if is_alias(name)]
        claimed = {read_alias(workspace, name) for name in names}
    except VhdError:
        return  # an alias that cannot be read may claim any of them
    usual = {f"{name.removesuffix(ALIAS_SUFFIX)}.vhd" for name in state.chain}
    for base in workspace.names(DATA):
        path = posixpath.join(DATA, base)
        if path not in claimed and (base in usual or _was_target(workspace, path, state, codecs)):
            workspace.delete_tree(path)


def _was_target(workspace: Workspace, path: str, state: MergeState, codecs: Mapping[str, Codec]) -> bool:
    if not path.endswith(".vhd") or not workspace.exists(f"{path}/{FOOTER}"):
        return False
    unreadable: tuple[type[BaseException], ...] = (VhdError, *workspace.missing)
    try:
        return VhdDirectory.open(workspace, path, codecs).footer.uuid == state.target_uuid
    except unreadable:
        return False
