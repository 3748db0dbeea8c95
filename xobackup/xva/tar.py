"""Members of a tar, one after the other, from a stream that is read once.

    off  size  ustar header
      0   100  name                 156  1  type: '0' or NUL = file
    124    12  size, octal          257  6  "ustar" (not asked for)
    148     8  checksum, octal      345 155 prefix of the name

Two blocks of zeros end it; what follows must be zeros as well. ``size`` may also be base-256 (GNU).
"""

from __future__ import annotations

from dataclasses import dataclass

from xobackup.xva.errors import Malformed, Truncated
from xobackup.xva.packing import ReadInto

BLOCK_BYTES = 512
NAME_BYTES_MAX = 256
_ZEROS = bytes(BLOCK_BYTES)
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Of one member."""

    name: str
    size_bytes: int


def parse_header(raw: bytes, *, position: int = 0) -> Header:
    """The header in a block that is not all zeros."""
    stored = _octal(raw[148:156], "checksum", position)
    if stored != sum(raw[:148]) + 8 * 32 + sum(raw[156:]):
        raise Malformed("xva-header", f"expected a tar header, found {raw[:16]!r}", position=position)
    if raw[156:157] not in (b"0", b"\0"):
        raise Malformed("xva-member", f"expected a file, found a member of type {raw[156:157]!r}", position=position)
    name = _text(raw[:100])
    prefix = _text(raw[345:500]) if raw[257:262] == b"ustar" else ""
    return Header(name=f"{prefix}/{name}" if prefix else name, size_bytes=_size(raw[124:136], position))


def _size(field: bytes, position: int) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 88)
    return _octal(field, "size", position)


def _octal(field: bytes, what: str, position: int) -> int:
    text = field.replace(b"\0", b" ").strip()
    if not text or not all(0x30 <= byte <= 0x37 for byte in text):
        problem = f"expected a tar header, found {field!r} as its {what}"
        raise Malformed("xva-header", problem, position=position)
    return int(text, 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


class TarStream:
    """Members in order. Each one's content has to be taken (or skipped) before the next header."""

    def __init__(self, source: ReadInto) -> None:
        self._source = source
        self._block = bytearray(BLOCK_BYTES)
        self._left = 0
        self.position = 0
        """Bytes of the tar taken so far."""

    def next(self) -> Header | None:
        """The next member's header, ``None`` at the end of the archive (and of the stream)."""
        self.skip()
        start = self.position
        self._exactly(memoryview(self._block), "a header")
        if self._block == _ZEROS:
            self._finish()
            return None
        header = parse_header(bytes(self._block), position=start)
        self._left = header.size_bytes
        self._pad = -header.size_bytes % BLOCK_BYTES
        return header

    def content(self, buffer: memoryview) -> None:
        """Fill ``buffer``, which must not be longer than what is left of the member."""
        assert len(buffer) <= self._left
        self._exactly(buffer, "a member")
        self._left -= len(buffer)

    def skip(self) -> None:
        """Pass over what is left of the member, and its padding."""
        scratch = memoryview(bytearray(_TAIL_BYTES)) if self._left else memoryview(b"")
        while self._left:
            self.content(scratch[: min(self._left, len(scratch))])
        if self._pad:
            pad, self._pad = self._pad, 0
            self._exactly(memoryview(self._block)[:pad], "a member's padding")

    _pad = 0

    def _exactly(self, buffer: memoryview, what: str) -> None:
        count = self._source(buffer)
        if count != len(buffer):
            problem = f"it ends inside {what}: expected {len(buffer)} bytes more, found {count}"
            raise Truncated(problem, position=self.position + count)
        self.position += count

    def _finish(self) -> None:
        """The second block of zeros, and nothing but zeros up to the end of the stream."""
        self._exactly(memoryview(self._block), "its end")
        buffer = bytearray(_TAIL_BYTES)
        count = len(buffer) if self._block == _ZEROS else -1
        while count == len(buffer):
            count = self._source(memoryview(buffer))
            if any(buffer[:count]):
                count = -1
        if count < 0:
            raise Malformed("xva-trailing", "other bytes follow its end", position=self.position)
