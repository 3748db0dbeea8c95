"""State files of older versions of Xen Orchestra name no chain: find the child they mean.

By the uuid of the child's footer if the state gives one, else by the checksum of its header, among the disks whose
parents lead to the root.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vhd.errors import MergeError, VhdError
from vhd.header import CHECKSUM_OFFSET
from vhd.merge.state import LegacyState, MergeState
from vhd.parents import parent_names
from vhd.workspace import is_disk, open_disk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from vhd.codec import Codec
    from vhd.header import Header
    from vhd.workspace import Workspace


def resolve_legacy(workspace: Workspace, state: LegacyState, codecs: Mapping[str, Codec]) -> MergeState:
    """``state`` with its chain. Raises :class:`MergeError` when the child cannot be told."""
    parents: dict[str, str | None] = {}
    uuids: dict[str, UUID] = {}
    checksums: dict[str, int] = {}
    for name in filter(is_disk, workspace.names("")):
        try:
            disk = open_disk(workspace, name, codecs, trailing_footer=name != state.root)
            try:
                names = parent_names(name, disk.parent_candidates())
            finally:
                disk.close()
        except VhdError:
            continue  # no child of ours, or a broken one: then the child is not found
        parents[name] = names[0] if names else None
        uuids[name] = disk.footer.uuid
        checksums[name] = header_checksum(disk.header) if disk.header is not None else -1
    if state.root not in parents:
        raise MergeError(state.root, "the state file of its merge is there, but the disk is missing or broken")
    target = _target(state, uuids, checksums)
    return MergeState(
        root_uuid=uuids[state.root],
        target_uuid=uuids[target],
        chain=_chain(state.root, target, parents),
        current_block=state.current_block,
        merged_bytes=state.merged_bytes,
        step=state.step,
    )


def header_checksum(header: Header) -> int:
    """The checksum field of a header."""
    stored: int = struct.unpack_from(">I", header.pack(), CHECKSUM_OFFSET)[0]
    return stored


def _target(state: LegacyState, uuids: dict[str, UUID], checksums: dict[str, int]) -> str:
    others = [name for name in uuids if name != state.root]
    by_uuid = [name for name in others if uuids[name] == state.target_uuid]
    by_header = [name for name in others if checksums[name] == state.target_header_checksum]
    found = by_uuid or by_header
    if len(found) != 1:
        raise MergeError(state.root, f"the child its state file means cannot be told: {len(found)} disks fit")
    return found[0]


def _chain(root: str, target: str, parents: dict[str, str | None]) -> tuple[str, ...]:
    chain = [target]
    while chain[-1] != root:
        parent = parents.get(chain[-1])
        if parent is None or parent in chain:
            raise MergeError(root, f"{target} does not build on it")
        chain.append(parent)
    return tuple(reversed(chain))
