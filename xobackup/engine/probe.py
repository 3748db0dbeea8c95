"""How well what passes can be compressed, by a sample: a sign of encryption when a VM's own share jumps.

The first blocks of a disk are all looked at, then one in a few, and of each only some pieces: it costs a small share
of the time that a block takes anyway (``python -m bench probe`` measures it). Pieces of zeros say nothing and are not
counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from vhd.block import Block

FIRST = 16
"""Blocks that are all looked at, so that a small delta tells something too."""
ONE_IN = 16
PIECE_BYTES = 4096
PIECES = 4
"""Of a block, spread over it."""
_ZEROS = bytes(PIECE_BYTES)


class Probe:
    """Sees every block of one disk, from one thread."""

    def __init__(self) -> None:
        self._seen = 0
        self._compressor = zstandard.ZstdCompressor(level=1)
        self.sampled_bytes = 0
        self.packed_bytes = 0

    @property
    def share(self) -> float | None:
        """What is left of the pieces when they are compressed: near 0 for text, 1 for what is encrypted (or was
        compressed before); ``None`` when there was nothing but zeros."""
        return min(self.packed_bytes / self.sampled_bytes, 1.0) if self.sampled_bytes else None

    def see(self, block: Block) -> None:
        """Before it goes on: afterwards its buffer is somebody else's."""
        self._seen += 1
        if self._seen > FIRST and self._seen % ONE_IN:
            return
        data = block.buffer.data
        step = len(data) // PIECES
        pieces = [bytes(data[first : first + PIECE_BYTES]) for first in range(0, len(data), step)]
        told = b"".join(piece for piece in pieces if piece != _ZEROS)
        if told:
            self.sampled_bytes += len(told)
            self.packed_bytes += len(self._compressor.compress(told))
