"""An archive read from its beginning to its end: the description, then every disk's pieces, each one verified.

    ova.xml, then for each disk  Ref:7/00000000, Ref:7/00000000.xxhash, Ref:7/00000003, ...

Rules, each checked while it is read: the description comes first; pieces are 1 MiB but for a disk's last one, in
order, and inside their disk; the first and the last piece of every disk are there; a piece is followed by its
checksum (XXH64 in ``.xxhash``, SHA-1 in ``.checksum``), which holds; a member of length zero is a sign of life; two
blocks of zeros, and nothing after them. So an archive that reads to its end is whole. Unknown members are counted,
not refused: newer hosts may add some. One piece is in memory at a time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import xxhash

from xobackup.xva.description import Description, XvaDisk, parse_description
from xobackup.xva.errors import Malformed
from xobackup.xva.packing import Packing, ReadInto, Unpacked
from xobackup.xva.tar import Header, TarStream

PIECE_BYTES = 1 << 20
DESCRIPTION = "ova.xml"
DESCRIPTION_BYTES_MAX = 32 << 20
CHECKSUM_BYTES_MAX = 128
_PIECE = re.compile(r"(Ref:\d+)/(\d{8,18})", re.ASCII)
_SUMS = {".xxhash": "xxhash", ".checksum": "sha1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece of a disk. ``data`` is valid until the next one is asked for."""

    disk: XvaDisk
    index: int
    data: memoryview
    checked: bool

    @property
    def offset(self) -> int:
        return self.index * PIECE_BYTES


@dataclass(slots=True, kw_only=True)
class Counted:
    """What was in it; complete when the pieces have ended."""

    pieces: int = 0
    checked: int = 0
    """Of them, those with a checksum."""
    unknown: int = 0
    """Members that are neither pieces nor checksums."""


class Archive:
    """See the module's head. The description is read at once."""

    def __init__(self, source: ReadInto, *, compare: bool = True) -> None:
        """``compare`` False: do not look at the pieces' checksums, to save what can be saved."""
        self._compare = compare
        unpacked = Unpacked(source)
        self.packing: Packing = unpacked.packing
        self.counted = Counted()
        self._tar = TarStream(unpacked.readinto)
        self._buffer = memoryview(bytearray(PIECE_BYTES))
        self._seen: dict[str, int] = {}
        self.description: Description = self._describe()

    def pieces(self) -> Iterator[Piece]:
        """Every piece, verified; ends when the archive has ended and was whole."""
        current = ""
        header = self._tar.next()
        while header is not None:
            found = _PIECE.fullmatch(header.name)
            if found is None:
                self.counted.unknown += 1
                header = self._tar.next()
                continue
            if not header.size_bytes:  # a sign of life
                header = self._tar.next()
                continue
            disk = self._place(found[1], int(found[2]), header, current)
            current = disk.id
            data = self._buffer[: header.size_bytes]
            self._tar.content(data)
            header, checked = self._check(header, data)
            self.counted.pieces += 1
            self.counted.checked += checked
            yield Piece(disk=disk, index=int(found[2]), data=data, checked=checked)
        self._all_there()

    def read_all(self) -> Counted:
        """Only verify it."""
        for _ in self.pieces():
            pass
        return self.counted

    def _describe(self) -> Description:
        header = self._tar.next()
        if header is None or header.name != DESCRIPTION:
            found = "an empty archive" if header is None else repr(header.name)
            raise Malformed("xva-description", f"expected {DESCRIPTION} first, found {found}", position=0)
        if header.size_bytes > DESCRIPTION_BYTES_MAX:
            problem = f"{DESCRIPTION} has {header.size_bytes} bytes, expected at most {DESCRIPTION_BYTES_MAX}"
            raise Malformed("xva-description", problem)
        text = bytearray(header.size_bytes)
        self._tar.content(memoryview(text))
        return parse_description(bytes(text))

    def _place(self, number: str, index: int, header: Header, current: str) -> XvaDisk:
        """The disk of a piece, when the piece may come now and fits."""
        disk = self.description.disk(number)
        if disk is None:
            self._fail("xva-disk", f"{header.name} is of a disk that the description does not have")
        last = max(disk.virtual_size_bytes - 1, 0) // PIECE_BYTES
        expected = disk.virtual_size_bytes - last * PIECE_BYTES if index == last else PIECE_BYTES
        if index > last or header.size_bytes != expected:
            told = f"{header.name} has {header.size_bytes} bytes, disk {number} {disk.virtual_size_bytes}"
            self._fail("xva-piece", told)
        before = self._seen.get(number)
        if before is None and index:
            self._fail("xva-piece", f"disk {number} begins with {header.name}, expected its first piece")
        if before is not None and (index <= before or number != current):
            self._fail("xva-order", f"{header.name} comes after piece {before}")
        self._seen[number] = index
        return disk

    def _check(self, header: Header, data: memoryview) -> tuple[Header | None, bool]:
        """Compare with the checksum that follows; the next member's header, and whether there was a checksum."""
        following = self._tar.next()
        kind = None
        if following is not None and following.name.startswith(header.name):
            kind = _SUMS.get(following.name[len(header.name) :])
        if following is None or kind is None:
            return following, False
        if not self._compare:
            return self._tar.next(), False
        if following.size_bytes > CHECKSUM_BYTES_MAX:
            self._fail("xva-piece", f"{following.name} has {following.size_bytes} bytes")
        raw = bytearray(following.size_bytes)
        self._tar.content(memoryview(raw))
        stored = raw.strip(b"\0 \r\n").decode("ascii", "replace").lower()
        found = _digest(data, kind)
        if stored != found:
            self._fail("xva-checksum", f"{header.name}: its checksum is {stored[:40]}, its bytes have {found}")
        return self._tar.next(), True

    def _all_there(self) -> None:
        for disk in self.description.disks:
            if not disk.virtual_size_bytes:
                continue
            last = max(disk.virtual_size_bytes - 1, 0) // PIECE_BYTES
            found = self._seen.get(disk.id)
            if found != last:
                has = "none" if found is None else f"the last one is {found}"
                self._fail("xva-disk", f"disk {disk.id} ({disk.name}): expected pieces up to {last}, {has}")

    def _fail(self, code: str, problem: str) -> NoReturn:
        raise Malformed(code, problem, position=self._tar.position)


def _digest(data: memoryview, kind: str) -> str:
    if kind == "xxhash":
        return xxhash.xxh64(data, seed=0).hexdigest()
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
