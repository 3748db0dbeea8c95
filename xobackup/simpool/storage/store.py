"""The disks of one storage repository: a directory of VHD files that form trees (facts of FileSR).

    before              after a snapshot S of L
     (P)--L              (P)--B--+--L    L's former file, hidden, is B; L and S are empty children
                                 +--S

- If L has nothing of its own since the last snapshot, both become children of P and no B is made.
- A chain of 30 takes no further snapshot.
- What the nodes take up (:mod:`xobackup.simpool.storage.space`) never adds up to more than the physical size.

The store knows nodes by the uuid in their file names; which records exist for them is not its business.
"""

from __future__ import annotations

import threading
import uuid as uuids
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, SECTOR_BYTES
from vhd.timestamps import to_vhd
from xobackup.simpool.storage.composed import ComposedDisk, runs_of
from xobackup.simpool.storage.node import Node
from xobackup.simpool.storage.space import Files

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from xobackup.clock import Clock
    from xobackup.simpool.storage.node import ImageFormat
    from xobackup.simpool.storage.space import Space

DEPTH_MAX = 30


class StorageFull(Exception):
    """The repository has no room for ``needed`` more bytes."""

    def __init__(self, needed: int, free: int) -> None:
        self.needed = needed
        self.free = free
        super().__init__(f"the storage repository is full: {needed} bytes needed, {free} free")


class ChainTooLong(Exception):
    """The disk's chain has reached the depth limit."""


class StorageReadOnly(OSError):
    """The repository takes no changes."""


class SrStore:
    """VHD trees of one storage repository, safe for many threads."""

    def __init__(
        self,
        directory: Path,
        *,
        physical_size: int,
        clock: Clock,
        rng: random.Random,
        on_write: Callable[[str, int, int], None] | None = None,
        space: Space | None = None,
        read_only: bool = False,
        foreign_bytes: int = 0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.physical_size = physical_size
        self.lock = threading.RLock()
        self._clock = clock
        self._rng = rng
        self._on_write = on_write
        self._space = space or Files()
        self.read_only = read_only
        self.foreign_bytes = foreign_bytes
        """Taken up by something that is no disk."""
        self.deflated: set[str] = set()
        """Snapshots, which nobody writes to."""
        self._nodes: dict[str, Node] = {}
        for path in sorted(directory.glob("*.vhd")):
            self._adopt(path.stem, Node.open(path))

    # -- looking

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._nodes

    def uuids(self) -> list[str]:
        return sorted(self._nodes)

    def node(self, uuid: str) -> Node:
        return self._nodes[uuid]

    def parent(self, uuid: str) -> str | None:
        name = self._nodes[uuid].parent_name
        return None if name is None else name.removesuffix(".vhd")

    def children(self, uuid: str) -> list[str]:
        name = f"{uuid}.vhd"
        return [other for other, node in self._nodes.items() if node.parent_name == name]

    def chain(self, uuid: str) -> list[Node]:
        """The node and its ancestors."""
        with self.lock:
            found = []
            current: str | None = uuid
            while current is not None:
                found.append(self._nodes[current])
                current = self.parent(current)
            return found

    def disk(self, uuid: str) -> ComposedDisk:
        return ComposedDisk(self.chain(uuid))

    @property
    def used_bytes(self) -> int:
        with self.lock:
            return self.foreign_bytes + sum(self.charge(uuid) for uuid in self._nodes)

    def charge(self, uuid: str) -> int:
        """What one node takes up."""
        return self._space.charge(self._nodes[uuid], deflated=uuid in self.deflated)

    # -- changing

    def create(self, uuid: str, size_bytes: int, image_format: ImageFormat = "vhd") -> None:
        """A new empty disk."""
        with self.lock:
            self._require_writable()
            self._reserve(self._space.fresh(size_bytes, deflated=False))
            self._new(uuid, size_bytes, None, image_format=image_format)

    def snapshot(self, uuid: str, new_uuid: str, base_uuid: str, *, deflated: bool = False) -> str | None:
        """Snapshot (or clone) ``uuid`` as ``new_uuid``; return ``base_uuid`` if that node had to be made.

        ``deflated``: nobody will write to the new one.
        """
        with self.lock:
            self._require_writable()
            leaf = self._nodes[uuid]
            if len(self.chain(uuid)) >= DEPTH_MAX:
                raise ChainTooLong(uuid)
            parent = self.parent(uuid)
            needed = self._space.fresh(leaf.size_bytes, deflated=deflated)
            if leaf.empty and parent is not None:
                self._reserve(needed)
                self._new(new_uuid, leaf.size_bytes, self._nodes[parent], deflated=deflated)
                return None
            kept = self._space.fresh(leaf.size_bytes, deflated=uuid in self.deflated)
            self._reserve(needed + kept - self._deflation(uuid))
            leaf.rename(self._path(base_uuid))
            leaf.set_footer(hidden=1)
            self._nodes[base_uuid] = self._nodes.pop(uuid)
            self._new(uuid, leaf.size_bytes, leaf, deflated=uuid in self.deflated)
            self._new(new_uuid, leaf.size_bytes, leaf, deflated=deflated)
            return base_uuid

    def _deflation(self, uuid: str) -> int:
        """What a leaf gives back when it becomes a hidden node."""
        node = self._nodes[uuid]
        before = self.charge(uuid)
        node.footer = replace(node.footer, hidden=1)
        after = self.charge(uuid)
        node.footer = replace(node.footer, hidden=0)
        return before - after

    def destroy(self, uuid: str) -> None:
        """Remove a node; one with children becomes hidden instead."""
        with self.lock:
            self._require_writable()
            if self.children(uuid):
                self._nodes[uuid].set_footer(hidden=1)
                return
            node = self._nodes.pop(uuid)
            self.deflated.discard(uuid)
            node.path.unlink()

    def resize(self, uuid: str, size_bytes: int) -> None:
        with self.lock:
            self._require_writable()
            node, deflated = self._nodes[uuid], uuid in self.deflated
            more = self._space.fresh(size_bytes, deflated=deflated) - self._space.fresh(
                node.size_bytes, deflated=deflated
            )
            self._reserve(more)
            node.resize(size_bytes)

    def write(self, uuid: str, offset: int, data: bytes | memoryview) -> None:
        """Write at any offset; sectors written in part keep the rest of what the disk shows."""
        end = offset + len(data)
        size = self._nodes[uuid].size_bytes
        if end > size:
            raise ValueError(f"{uuid}: a write of {len(data)} bytes at {offset} goes past the end ({size})")
        with self.lock:
            self._require_writable()
            start, stop = offset - offset % SECTOR_BYTES, -(-end // SECTOR_BYTES) * SECTOR_BYTES
            whole = memoryview(data)
            if (start, stop) != (offset, end):
                with self.disk(uuid) as disk:
                    head, tail = disk.read(start, offset - start), disk.read(end, stop - end)
                whole = memoryview(head + bytes(data) + tail)
            self._write_aligned(self._nodes[uuid], start, whole)
            if self._on_write is not None:
                self._on_write(uuid, offset, len(data))

    def _write_aligned(self, node: Node, offset: int, data: memoryview) -> None:
        done = 0
        with node.pinned():
            while done < len(data):
                index, inside = divmod(offset + done, BLOCK_BYTES)
                step = min(BLOCK_BYTES - inside, len(data) - done)
                node.write_sectors(index, inside // SECTOR_BYTES, data[done : done + step])
                done += step

    # -- moving blocks between nodes (the garbage collector's tools)

    def merge_block(self, child: Node, parent: Node, index: int, buffer: memoryview) -> None:
        """Give the parent what the child has of one block."""
        for first, count in runs_of(child.bits(index)):
            piece = buffer[: count * SECTOR_BYTES]
            child.read_sectors(index, first, piece)
            parent.write_sectors(index, first, piece)

    def relink(self, uuid: str, parent: str | None) -> None:
        with self.lock:
            self._nodes[uuid].set_parent(None if parent is None else self._nodes[parent])

    def take_over(self, leaf: str, base: str) -> None:
        """The hidden base, which has all of the leaf's data, becomes the leaf's file."""
        with self.lock:
            gone, node = self._nodes.pop(leaf), self._nodes.pop(base)
            node.set_footer(hidden=0)
            node.rename(gone.path)
            self._nodes[leaf] = node

    # -- inside

    def _path(self, uuid: str) -> Path:
        return self.directory / f"{uuid}.vhd"

    def _new(
        self,
        uuid: str,
        size_bytes: int,
        parent: Node | None,
        *,
        deflated: bool = False,
        image_format: ImageFormat = "vhd",
    ) -> None:
        """A node; a child is of its parent's kind."""
        node_uuid = uuids.UUID(int=self._rng.getrandbits(128), version=4)
        node = Node.create(
            self._path(uuid),
            size_bytes=size_bytes,
            uuid=node_uuid,
            parent=parent,
            timestamp=to_vhd(self._clock.now_s()),
            image_format=image_format if parent is None else parent.image_format,
        )
        self._adopt(uuid, node)
        if deflated:
            self.deflated.add(uuid)

    def _adopt(self, uuid: str, node: Node) -> None:
        node.on_grow = partial(self._grow, node)
        self._nodes[uuid] = node

    def _grow(self, node: Node, more: int) -> None:
        self._reserve(self._space.growth(node, more))

    def _reserve(self, more: int) -> None:
        if more <= 0:
            return
        free = self.physical_size - self.used_bytes
        if more > free:
            raise StorageFull(more, free)

    def _require_writable(self) -> None:
        if self.read_only:
            raise StorageReadOnly(f"the storage repository {self.directory.name} is read-only")
