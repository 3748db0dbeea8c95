"""What a VHD costs its repository: the length of its file, or the size of its logical volume.

repository    writable leaf                      snapshot            hidden node
files         the file's length                  the same            the same
LVM (thick)   the whole disk and its metadata    at least 8 MiB      the file's length
all LVM sizes in steps of 4 MiB
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vhd.block import BLOCK_BYTES

if TYPE_CHECKING:
    from xobackup.simpool.storage.node import Node

EXTENT_BYTES = 4 << 20
DEFLATED_BYTES = 8 << 20


class Space(Protocol):
    """How one kind of repository accounts for its nodes."""

    def charge(self, node: Node, *, deflated: bool) -> int:
        """What the node takes up; ``deflated``: it is a snapshot that nobody writes to."""
        ...

    def fresh(self, size_bytes: int, *, deflated: bool) -> int:
        """What a new node without data takes up, at most."""
        ...

    def growth(self, node: Node, more: int) -> int:
        """What it takes to let the node's file grow by ``more``."""
        ...


class Files:
    """Files on a file system."""

    def charge(self, node: Node, *, deflated: bool) -> int:
        del deflated
        return node.file_bytes

    def fresh(self, size_bytes: int, *, deflated: bool) -> int:
        del deflated
        return metadata_bytes(size_bytes)

    def growth(self, node: Node, more: int) -> int:
        del node
        return more


class ThickVolumes:
    """Logical volumes: what somebody may write to has all its room from the start."""

    def charge(self, node: Node, *, deflated: bool) -> int:
        if node.hidden:
            return _extents(node.file_bytes)
        if deflated:
            return max(DEFLATED_BYTES, _extents(node.file_bytes))
        return self.fresh(node.size_bytes, deflated=False)

    def fresh(self, size_bytes: int, *, deflated: bool) -> int:
        if deflated:
            return DEFLATED_BYTES
        blocks = -(-size_bytes // BLOCK_BYTES)
        return _extents(blocks * (BLOCK_BYTES + 4096) + metadata_bytes(size_bytes))

    def growth(self, node: Node, more: int) -> int:
        if not node.hidden:
            return 0
        return _extents(node.file_bytes + more) - _extents(node.file_bytes)


def metadata_bytes(size_bytes: int) -> int:
    """At most so long is the file of an empty disk."""
    return 4 * (size_bytes // BLOCK_BYTES) + 4096


def _extents(count: int) -> int:
    return -(-count // EXTENT_BYTES) * EXTENT_BYTES
