"""The complaints of Xen's ``vhd-util check``, in its order, from the description of what it verifies.

Parents are found by the locators' file name beside the child; their footer must have the header's parent uuid.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import struct
from pathlib import Path
from typing import Any

from xotest.xo_rules.disks import ALL_ONES, UNUSED, checksum
from xotest.xo_rules.trees import MappingTree, Tree, tree_of

EPOCH_2000 = 946_684_800
CODES = {b"MacX", b"W2ku", b"W2ru"}
KNOWN_CODES = CODES | {b"Wi2r", b"Wi2k", b"Mac "}


class _File:
    """One file of a tree; reads past its end are errors of the caller's rules."""

    def __init__(self, tree: Tree, path: str) -> None:
        self.tree, self.path = tree, path
        self.size = tree.size(path)

    def at(self, offset: int, length: int) -> bytes:
        return self.tree.read(self.path, offset, length)

    def beside(self, name: str) -> _File | None:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), name))
        return _File(self.tree, path) if self.tree.is_directory(path) is False else None


def vhd_util_check(
    source: bytes | os.PathLike[str], *, now_s: int | None = None, ignore_parents: bool = False
) -> list[str]:
    """Complaints about one VHD (its bytes or its path; only a path has parents). ``now_s``: Unix time, None skips."""
    if isinstance(source, (bytes, bytearray)):
        return _check(_File(MappingTree({"disk.vhd": bytes(source)}), "disk.vhd"), now_s, ignore_parents=True)
    path = Path(source)
    return _check(_File(tree_of(path.parent), path.name), now_s, ignore_parents=ignore_parents)


def vhd_util_check_chain(source: Any, path: str, *, now_s: int | None = None) -> list[str]:
    """``check -p``: the file and all its parents; complaints are prefixed with the file's name."""
    file: _File | None = _File(tree_of(source), path)
    found: list[str] = []
    seen: set[str] = set()
    while file is not None:
        if file.path in seen:
            return [*found, f"{file.path}: loop of parents"]
        seen.add(file.path)
        found += [f"{file.path}: {text}" for text in _check(file, now_s, ignore_parents=False)]
        if file.at(60, 4) != b"\0\0\0\4":
            break
        file = next((parent for _, parent in _parents(file)[1] if parent is not None), None)
    return found


def _check(file: _File, now_s: int | None, *, ignore_parents: bool) -> list[str]:
    if file.size < 511:
        return ["file too small"]
    end = file.size - (511 if file.size % 512 == 511 else 512)
    footer = file.at(end, 512).ljust(512, b"\0")
    found = _footer(footer, now_s)
    if found:
        return [f"primary footer: {text}" for text in found]
    kind = struct.unpack_from(">I", footer, 60)[0]
    if file.size % 512 not in (0, 511):
        found.append(f"file size {file.size} is no number of sectors")
    if kind == 2:
        return found
    backup = file.at(0, 512)
    found += [f"backup footer: {text}" for text in _footer(backup, now_s)]
    if backup != footer:
        found.append("primary and backup footer do not match")
    header = file.at(struct.unpack_from(">Q", footer, 16)[0], 1024)
    problems = _header(header, file.size, kind, now_s)
    if problems:
        return found + [f"header: {text}" for text in problems]
    metadata_end, located = _metadata_end(file, footer, header)
    found += located
    found += _blocks(file, footer, header, end, metadata_end)
    found += _locators(file, header, kind, ignore_parents=ignore_parents)
    return found


def _footer(raw: bytes, now_s: int | None) -> list[str]:
    if raw[:8] != b"conectix":
        return ["invalid cookie"]
    stored = struct.unpack_from(">I", raw, 64)[0]
    shown = raw[:85] + b"\0" + raw[86:] if raw[28:32] == b"tap\0" and stored != checksum(raw, 64) else raw
    if stored != checksum(shown, 64):
        return ["invalid checksum"]
    features, version, offset, stamp = struct.unpack_from(">IIQI", raw, 8)
    creator_version = struct.unpack_from(">I", raw, 32)[0]
    size = struct.unpack_from(">Q", raw, 48)[0]
    kind = struct.unpack_from(">I", raw, 60)[0]
    rules = [
        (features & 2 == 0, "reserved feature bit not set"),
        (features & ~3 != 0, "invalid extra features"),
        (version != 0x00010000, "unsupported file version"),
        (kind == 2 and offset != ALL_ONES, "invalid data offset"),
        (now_s is not None and stamp > now_s - EPOCH_2000 + 1800, "creation time in future"),
        (raw[28:32] == b"tap\0" and creator_version > 0x00010003, "unsupported tap creator version"),
        (struct.unpack_from(">I", raw, 56)[0] > _packed_chs(size), "geometry too large"),
        (kind not in (2, 3, 4), "invalid type"),
        (raw[84] > 1, "invalid saved state"),
        (raw[85] > 1, "invalid hidden state"),
        (any(raw[86:]), "invalid 'reserved' bits"),
        (not any(raw[68:84]), "invalid uuid"),
    ]
    return [text for failed, text in rules if failed]


def _packed_chs(size: int) -> int:
    total = min(-(-size // 512), 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        heads, track = 16, 255
        tracks = total // track
    else:
        track, tracks = 17, total // 17
        heads = max(4, (tracks + 1023) // 1024)
        if tracks >= heads * 1024 or heads > 16:
            heads, track, tracks = 16, 31, total // 31
        if tracks >= heads * 1024:
            heads, track, tracks = 16, 63, total // 63
    return tracks // heads << 16 | heads << 8 | track


def _header(raw: bytes, file_size: int, kind: int, now_s: int | None) -> list[str]:
    if raw[:8] != b"cxsparse":
        return ["invalid cookie"]
    if struct.unpack_from(">I", raw, 36)[0] != checksum(raw, 36):
        return ["invalid checksum"]
    offset, table, version, _, block = struct.unpack_from(">QQIII", raw, 8)
    stamp, reserved = struct.unpack_from(">II", raw, 56)
    rules = [
        (version != 0x00010000, "unsupported header version"),
        (offset != ALL_ONES, "invalid data offset"),
        (table == 0 or table % 512 != 0 or table >= file_size, "invalid table offset"),
        (block.bit_count() != 1 or block > 1 << 21, "invalid block size"),
        (reserved != 0 or any(raw[768:]), "invalid reserved bits"),
        (kind == 3 and any(raw[64:576]), "invalid non-null parent name"),
        (kind == 3 and any(raw[576:768]), "invalid non-null parent locators"),
        (kind == 3 and any(raw[40:56]), "invalid non-null parent uuid"),
        (kind == 3 and stamp != 0, "invalid non-zero parent timestamp"),
        (kind == 4 and now_s is not None and stamp > now_s - EPOCH_2000 + 1800, "parent timestamp in future"),
        (kind == 4 and _name(raw) is None, "error decoding parent name"),
    ]
    return [text for failed, text in rules if failed]


def _name(header: bytes) -> str | None:
    try:
        return header[64:576].decode("utf-16-be").split("\0", 1)[0] or None
    except UnicodeDecodeError:
        return None


def _entries(header: bytes) -> list[tuple[bytes, int, int, int]]:
    """(code, space in bytes, length, offset) of the locators in use."""
    found = []
    for at in range(576, 768, 24):
        code, space, length, _, offset = struct.unpack_from(">4sIIIQ", header, at)
        if code != bytes(4):
            found.append((code, space * 512 if space < 512 else space, length, offset))
    return found


def _metadata_end(file: _File, footer: bytes, header: bytes) -> tuple[int, list[str]]:
    """Where the last of header, table, batmap and locators ends; complaints about the batmap."""
    table, _, entries = struct.unpack_from(">QII", header, 16)
    after_table = table + -(-4 * entries // 512) * 512
    ends = [struct.unpack_from(">Q", footer, 16)[0] + 1024, after_table]
    ends += [offset + space for _, space, _, offset in _entries(header)]
    if footer[28:32] != b"tap\0" or struct.unpack_from(">I", footer, 32)[0] < 0x00010002:
        return max(ends), []
    raw = file.at(after_table, 512)
    if raw[:8] != b"tdbatmap":
        return max(ends), ["error calculating end of metadata: -22"]
    offset, sectors, version, stored = struct.unpack_from(">QIII", raw, 8)
    ends.append(offset + sectors * 512)
    covered = -(-(struct.unpack_from(">Q", footer, 48)[0] >> 24) // 512) * 512
    bits = file.at(offset, sectors * 512)
    rules = [
        (version not in (0x00010001, 0x00010002), "batmap: unsupported version"),
        (version == 0x00010002 and stored != ~sum(bits[:covered] or bits) & 0xFFFFFFFF, "batmap: invalid checksum"),
        (sectors * 512 * 8 < entries, "batmap: too small"),
    ]
    table_raw = file.at(table, 4 * entries).ljust(4 * entries, b"\xff")
    bat = struct.unpack(f">{entries}I", table_raw)
    full = [i for i, at in enumerate(bat) if at == UNUSED and i >> 3 < len(bits) and bits[i >> 3] & 0x80 >> (i & 7)]
    rules.append((bool(full), f"batmap: unallocated blocks {full[:5]} marked full"))
    return max(ends), [text for failed, text in rules if failed]


def _blocks(file: _File, footer: bytes, header: bytes, end: int, metadata_end: int) -> list[str]:
    size = struct.unpack_from(">Q", footer, 48)[0]
    table, _, entries, block = struct.unpack_from(">QIII", header, 16)
    if size // block > entries:
        return [f"BAT too small: {entries} entries for {size} bytes"]
    raw = file.at(table, 4 * entries)
    if len(raw) < 4 * entries:
        return ["BAT: short read"]
    length = block + -(-(block // 512 // 8) // 512) * 512
    used = sorted((at * 512, index) for index, at in enumerate(struct.unpack(f">{entries}I", raw)) if at != UNUSED)
    found = [f"block {index} at {at} clobbers headers" for at, index in used if at < metadata_end]
    found += [f"block {index} at {at} clobbers footer" for at, index in used if at + length > end]
    for (at, index), (following, other) in itertools.pairwise(used):
        if following < at + length:
            found.append(f"blocks {index} and {other} overlap")
    return found


def _locators(file: _File, header: bytes, kind: int, *, ignore_parents: bool) -> list[str]:
    if kind != 4:
        return []
    found, parents = _parents(file, header)
    if ignore_parents or found:
        return found
    wanted = header[40:56]
    for name, parent in parents:
        if parent is None:
            found.append(f"parent {name} not found")
        elif parent.at(max(parent.size - 512, 0), 512)[68:84] != wanted:
            found.append(f"parent {name}: uuid does not match")
    return found if parents else ["could not find parent"]


def _parents(file: _File, header: bytes | None = None) -> tuple[list[str], list[tuple[str, _File | None]]]:
    """Complaints about the locators, and what they point at."""
    header = file.at(struct.unpack(">Q", file.at(16, 8))[0], 1024) if header is None else header
    name = _name(header)
    found: list[str] = []
    parents: list[tuple[str, _File | None]] = []
    seen: set[bytes] = set()
    for code, space, length, offset in _entries(header):
        label = code.decode("ascii", "replace")
        if code not in KNOWN_CODES:
            found.append(f"locator with invalid code {label!r}")
        elif code in seen:
            found.append(f"duplicate locator {label!r}")
        elif not space or not length or not offset or offset + space > file.size or length > space:
            found.append(f"locator {label!r} outside the file or empty")
        elif code in CODES:
            path = _locator_path(code, file.at(offset, length))
            if path is None or posixpath.basename(path) != posixpath.basename(name or ""):
                found.append(f"locator {label!r} names {path!r}, the header {name!r}")
            else:
                parents.append((path, file.beside(path)))
        seen.add(code)
    return found, parents


def _locator_path(code: bytes, raw: bytes) -> str | None:
    try:
        if code == b"MacX":
            return raw.decode("ascii").rstrip("\0").removeprefix("file://")
        text = raw.decode("utf-16-le").rstrip("\0").replace("\\", "/")
        return text[2:] if text[:2].lower() == "c:" else text
    except UnicodeDecodeError:
        return None
