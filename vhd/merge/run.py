"""Begin a merge, or go on with one that was interrupted, by us or by Xen Orchestra.

The caller holds the lock of the VM's directory. Nothing changes before the state file is written; after that every
exit leaves something that :func:`resume_merge` finishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vhd.errors import MergeError
from vhd.lineage import read_states
from vhd.merge.cleanup import finish_merge
from vhd.merge.directories import merge_directories
from vhd.merge.files import merge_files
from vhd.merge.legacy import resolve_legacy
from vhd.merge.members import (
    FileMembers,
    Members,
    check_blocks,
    check_forks,
    check_members,
    check_room,
    open_members,
    plan_members,
)
from vhd.merge.progress import Keeper, MergeOptions
from vhd.merge.state import LegacyState, MergeState, Step, state_name, unpack_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vhd.codec import Codec
    from vhd.footer import Footer
    from vhd.merge.plan import MergePlan
    from vhd.workspace import Workspace

DEFAULT_OPTIONS = MergeOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """What became of a merge."""

    name: str
    """The merged disk: the target's name."""
    chain: tuple[str, ...]
    footer: Footer
    plan: MergePlan | None
    """``None`` when only the cleanup was left to do."""
    merged_bytes: int
    """Over all attempts, as Xen Orchestra counts: the bytes of the blocks taken over."""
    bytes_moved: int
    """By this attempt."""
    resumed: bool


def show_merge(workspace: Workspace, chain: Sequence[str], codecs: Mapping[str, Codec]) -> MergePlan:
    """What merging ``chain`` (root first) would do; changes nothing. Raises as :func:`apply_merge`."""
    members = open_members(workspace, chain, codecs)
    try:
        return _judge(workspace, members, None, codecs, check_uuids=True)
    finally:
        members.close()


def apply_merge(
    workspace: Workspace,
    chain: Sequence[str],
    codecs: Mapping[str, Codec],
    options: MergeOptions = DEFAULT_OPTIONS,
) -> MergeResult:
    """Merge ``chain`` (root first) into one disk under the last one's name.

    Raises :class:`MergeError`, before anything changed, when that cannot be done or another merge is under way.
    A merge of the same chain that was interrupted is resumed.
    """
    for state in read_states(workspace, codecs):
        if state.chain == tuple(chain):
            return resume_merge(workspace, state.root, codecs, options)
        if set(state.chain).intersection(chain):
            raise MergeError(chain[0], f"a merge of {' and '.join(state.chain)} has to be finished first")
    if chain and workspace.exists(state_name(chain[0])):
        raise MergeError(chain[0], f"{state_name(chain[0])} is there, but does not say what it means")
    members = open_members(workspace, chain, codecs)
    try:
        plan = _judge(workspace, members, None, codecs, check_uuids=options.check_uuids)
        check_blocks(members, plan)
        state = MergeState(
            root_uuid=members.disks[0].footer.uuid,
            target_uuid=members.disks[-1].footer.uuid,
            chain=members.names,
            current_block=plan.indexes[0] if plan.indexes else 0,
        )
        keeper = Keeper(workspace, state, options, plan)
        keeper.keep(state)
        _merge_blocks(members, plan, keeper)
    finally:
        members.close()
    return _finish(workspace, keeper.state, plan, codecs, keeper)


def resume_merge(
    workspace: Workspace,
    root: str,
    codecs: Mapping[str, Codec],
    options: MergeOptions = DEFAULT_OPTIONS,
) -> MergeResult:
    """Finish the merge whose state file names ``root``."""
    state = _read_state(workspace, root, codecs)
    if state.step is Step.CLEANUP:
        return _finish(workspace, state, None, codecs, None)
    members = open_members(workspace, state.chain, codecs)
    try:
        plan = _judge(workspace, members, state, codecs, check_uuids=options.check_uuids)
        keeper = Keeper(workspace, state, options, plan, resumed=True)
        _merge_blocks(members, plan, keeper)
    finally:
        members.close()
    return replace(_finish(workspace, keeper.state, plan, codecs, keeper), resumed=True)


def _read_state(workspace: Workspace, root: str, codecs: Mapping[str, Codec]) -> MergeState:
    name = state_name(root)
    if not workspace.exists(name):
        raise MergeError(root, "no merge into it is under way")
    state = unpack_state(workspace.get(name), name)
    return resolve_legacy(workspace, state, codecs) if isinstance(state, LegacyState) else state


def _judge(
    workspace: Workspace,
    members: Members,
    state: MergeState | None,
    codecs: Mapping[str, Codec],
    *,
    check_uuids: bool,
) -> MergePlan:
    check_members(members, state=state, check_uuids=check_uuids)
    check_forks(workspace, members.names, codecs)
    plan = plan_members(members)
    check_room(members, plan)
    return plan


def _merge_blocks(members: Members, plan: MergePlan, keeper: Keeper) -> None:
    if isinstance(members, FileMembers):
        merge_files(members, plan, keeper)
    else:
        merge_directories(members, plan, keeper)
    keeper.keep(replace(keeper.state, step=Step.CLEANUP))


def _finish(
    workspace: Workspace,
    state: MergeState,
    plan: MergePlan | None,
    codecs: Mapping[str, Codec],
    keeper: Keeper | None,
) -> MergeResult:
    """The cleanup; every file is closed by now, since some storage (SMB, NFS) minds."""
    footer = finish_merge(workspace, state, codecs)
    return MergeResult(
        name=state.target,
        chain=state.chain,
        footer=footer,
        plan=plan,
        merged_bytes=state.merged_bytes,
        bytes_moved=keeper.bytes_done if keeper is not None else 0,
        resumed=keeper is None,
    )
