"""Whether a zstd stream was whole, from its framing alone: no byte is unpacked, and a stream may come in any pieces.

Decompressors of streams take an early end for the end. A frame is (RFC 8878): magic, a descriptor, 0 or 1 byte of
window, 0 to 4 of dictionary, 0 to 8 of content size; blocks of a 3-byte header (last, kind, size) and their content;
4 bytes of checksum if the descriptor says so. Skippable frames carry their length.
"""

from __future__ import annotations

MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_FIRST = 0x184D2A50
_DICTIONARY_BYTES = (0, 1, 2, 4)
_RLE = 1


class ZstdFrames:
    """Feed it everything; :attr:`complete` at the end. It believes the decompressor that the bytes make sense."""

    def __init__(self) -> None:
        self._skip = 0
        self._held = bytearray()
        self._state = "magic"
        self._checksum = False
        self.frames = 0

    @property
    def complete(self) -> bool:
        """Whether what was fed ends where a frame ends."""
        return self._state == "magic" and not self._held and not self._skip and self.frames > 0

    def feed(self, data: bytes | memoryview) -> None:
        """Follow the next bytes."""
        view = memoryview(data)
        at = 0
        while at < len(view):
            if self._skip:
                step = min(self._skip, len(view) - at)
                self._skip -= step
                at += step
                continue
            wanted = self._wanted() - len(self._held)
            self._held += view[at : at + wanted]
            at += min(wanted, len(view) - at)
            if len(self._held) == self._wanted():
                self._advance()

    def _wanted(self) -> int:
        """Length of the head that is being collected; grows once its first bytes are known."""
        if self._state == "block":
            return 3
        if self._state == "skippable":
            return 4
        if self._state == "magic":
            return 4
        return 1 if not self._held else 1 + _head_bytes(self._held[0])

    def _advance(self) -> None:
        head = bytes(self._held)
        if self._state == "descriptor" and len(head) == 1 and _head_bytes(head[0]):
            return
        self._held.clear()
        if self._state == "magic":
            skippable = int.from_bytes(head, "little") & ~0xF == _SKIPPABLE_FIRST
            self._state = "skippable" if skippable else "descriptor"
        elif self._state == "skippable":
            self._skip = int.from_bytes(head, "little")
            self._end_frame()
        elif self._state == "descriptor":
            self._checksum = bool(head[0] & 4)
            self._state = "block"
        else:
            self._block(int.from_bytes(head, "little"))

    def _block(self, head: int) -> None:
        size = head >> 3
        self._skip = 1 if head >> 1 & 3 == _RLE else size
        if head & 1:
            self._skip += 4 if self._checksum else 0
            self._end_frame()

    def _end_frame(self) -> None:
        self._state = "magic"
        self.frames += 1


def _head_bytes(descriptor: int) -> int:
    """Bytes between the descriptor and the first block."""
    single = descriptor >> 5 & 1
    content = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    return (0 if single else 1) + _DICTIONARY_BYTES[descriptor & 3] + content
