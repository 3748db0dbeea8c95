"""Forms that older versions of Xen Orchestra (and hosts) wrote, made of a golden repository on the spot.

Each function changes an unpacked repository in place. What a restore point must give back stays the same.
"""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brotli

from vhd.header import Header, unpack_header
from vhd.merge.legacy import header_checksum
from xobackup.repository import legacy
from xotest.golden import Golden


def _lineages(world: Golden) -> Iterator[Path]:
    return (path for path in sorted(world.vm_directory.glob("vdis/*/*")) if path.is_dir())


def _chunks(disk: Path) -> list[Path]:
    """What the filters of a VHD directory are about: everything but their own file."""
    return [disk / "header", disk / "footer", disk / "bat", *disk.glob("blocks/*/*")]


def data_by_uuid(world: Golden) -> None:
    """Objects of a disk in ``data/<uuid>.vhd``."""
    for lineage in _lineages(world):
        for alias in sorted(lineage.glob("*.alias.vhd")):
            new = f"data/{uuid.uuid5(uuid.NAMESPACE_URL, str(alias.name))}.vhd"
            (lineage / alias.read_text()).rename(lineage / new)
            alias.write_text(new)


def gzipped(world: Golden) -> None:
    """Blocks in gzip."""
    for filters in world.root.rglob("chunk-filters.json"):
        filters.write_text('["gzip"]')
        for chunk in _chunks(filters.parent):
            chunk.write_bytes(gzip.compress(brotli.decompress(chunk.read_bytes()), mtime=0))


def plain(world: Golden) -> None:
    """Blocks as they are, and no word about it."""
    for filters in world.root.rglob("chunk-filters.json"):
        for chunk in _chunks(filters.parent):
            chunk.write_bytes(brotli.decompress(chunk.read_bytes()))
        filters.unlink()


def old_records(world: Golden) -> None:
    """Hosts of long ago: booleans are numbers; versions of long ago: no tags, deltas said to be fulls, no cache."""
    for path in world.vm_directory.glob("*.json"):
        value = json.loads(path.read_text())
        value.pop("tags", None)
        value["isVhdDifferencing"] = dict.fromkeys(value.get("isVhdDifferencing") or {}, False)
        _numbers(value["vm"], legacy.VM_BOOLEANS)
        _numbers(value["vmSnapshot"], legacy.VM_BOOLEANS)
        value["vm"].setdefault("is_a_template", 0)
        for kind, names in (
            ("vbds", legacy.VBD_BOOLEANS), ("vifs", legacy.VIF_BOOLEANS), ("vdis", legacy.VDI_BOOLEANS),
        ):  # fmt: skip
            for record in value.get(kind, {}).values():
                _numbers(record, names)
        path.write_text(json.dumps(value))
    for cache in world.root.rglob("cache.json.gz"):
        cache.unlink()


def _numbers(record: dict[str, Any], names: frozenset[str]) -> None:
    for name in names & record.keys():
        record[name] = int(record[name])


def old_merge_state(world: Golden) -> None:
    """A merge that stopped, whose state names no chain: the two disks by the checksums of their headers."""
    for lineage in _lineages(world):
        for path in lineage.glob(".*.merge.json"):
            state = json.loads(path.read_text())
            root, child = (_header(lineage, name) for name in (state["chain"][0], state["chain"][-1]))
            path.write_text(
                json.dumps(
                    {
                        "child": {"header": header_checksum(child)},
                        "parent": {"header": header_checksum(root)},
                        "currentBlock": state["currentBlock"],
                        "mergedDataSize": state["mergedDataSize"],
                    }
                )
            )


def _header(lineage: Path, name: str) -> Header:
    path = lineage / name
    if name.endswith(".alias.vhd"):
        return unpack_header(brotli.decompress((lineage / path.read_text() / "header").read_bytes()), name)
    with path.open("rb") as file:
        file.seek(512)
        return unpack_header(file.read(1024), name)


OLD_FORMS: tuple[tuple[str, Callable[[Golden], None]], ...] = (
    ("directory", data_by_uuid),
    ("directory", gzipped),
    ("directory", plain),
    ("directory", old_records),
    ("file", old_records),
    ("merged-directory", data_by_uuid),
    ("interrupted-directory", data_by_uuid),
    ("interrupted-directory", old_merge_state),
    ("interrupted-file", old_merge_state),
)
"""Golden repository and what is done to it."""
