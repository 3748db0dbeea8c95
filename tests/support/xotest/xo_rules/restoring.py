"""A naive restore: walk the parents by name, take each sector from the first disk that has it. Slow and obvious."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator
from typing import Any

from xotest.xo_rules.chaining import open_chain
from xotest.xo_rules.disks import BLOCK, Broken, Opened, decompress
from xotest.xo_rules.lineages import STATE
from xotest.xo_rules.trees import Tree, tree_of

ONES = b"\xff" * 512
ZEROS = bytes(BLOCK)
SECTORS = frozenset(range(BLOCK // 512))


def points(source: Any, vm: str) -> list[str]:
    """Paths of a VM's restore points, oldest first."""
    root = f"xo-vm-backups/{vm}"
    names = tree_of(source).list(root)
    return [f"{root}/{name}" for name in sorted(names) if name.endswith(".json")]


def disk_sha256(source: Any, json_path: str, vdi: str) -> str:
    """sha256 of the whole raw disk ``vdi`` (uuid of its snapshot, of the live disk, or ref) of a restore point."""
    digest = hashlib.sha256()
    for piece in read_disk(source, json_path, vdi):
        digest.update(piece)
    return digest.hexdigest()


def read_disk(source: Any, json_path: str, vdi: str) -> Iterator[bytes | memoryview]:
    """The raw disk, block by block, the last one cut at the disk's size."""
    tree = tree_of(source)
    point = json.loads(tree.read(json_path))
    record = next(
        (ref for ref, disk in point["vdis"].items() if vdi in (ref, disk["uuid"], disk.get("$snapshot_of$uuid"))),
        None,
    )
    assert record is not None, f"{json_path} has no disk {vdi}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(json_path), point["vhds"][record]))
    here = posixpath.dirname(path)
    roots = [f"{here}/{match[1]}" for name in tree.list(here) if (match := STATE.match(name))]
    chain = open_chain(tree, path, check_uuids=False, force=bool(roots))
    return _blocks(tree, chain, next((disk for disk in chain if disk.path in roots), None))


def _blocks(tree: Tree, chain: list[Opened], merge_root: Opened | None) -> Iterator[bytes | memoryview]:
    size = chain[0].size
    for index in range(-(-size // BLOCK)):
        yield _block(tree, chain, index, merge_root)[: size - index * BLOCK]


def _block(tree: Tree, chain: list[Opened], index: int, merge_root: Opened | None) -> bytes | memoryview:
    result: bytearray | None = None
    missing = SECTORS
    for disk in chain:
        if index not in disk.sectors:
            continue
        raw = _raw_block(tree, disk, index)
        if raw is None and merge_root is not None:
            # moved into the root already, whose table is only written at the end of the merge
            raw = _raw_block(tree, merge_root, index)
        if raw is None:
            raise Broken(f"{disk.path}: block {index} is missing")
        if len(raw) < 512 + BLOCK:
            raise Broken(f"{disk.path}: block {index} has {len(raw)} bytes")
        bitmap, data = raw[:512], memoryview(raw)[512:]
        present = missing if bitmap == ONES else {s for s in missing if bitmap[s >> 3] & (0x80 >> (s & 7))}
        if len(present) == BLOCK // 512:
            return data
        result = result or bytearray(BLOCK)
        for sector in present:
            result[sector * 512 : sector * 512 + 512] = data[sector * 512 : sector * 512 + 512]
        missing = missing - present
        if not missing:
            break
    return ZEROS if result is None else bytes(result)


def _raw_block(tree: Tree, disk: Opened, index: int) -> bytes | None:
    """Bitmap and data; None when a directory has no object for the block."""
    if not disk.is_directory:
        return tree.read(disk.data_path, disk.sectors[index] * 512, 512 + BLOCK)
    try:
        packed = tree.read(f"{disk.data_path}/blocks/{index // 1000}/{index % 1000}")
    except FileNotFoundError:
        return None
    return decompress(packed, disk.compression)
