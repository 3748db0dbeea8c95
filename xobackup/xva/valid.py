"""What Xen Orchestra looks at when it decides whether an image is one: a few bytes at both ends, nothing between."""

from __future__ import annotations

from xobackup.xva.packing import Packing, packing_of

HEAD_BYTES = 4
TAIL_BYTES = 1024
_SIZE_MIN = 20


def xo_accepts(size_bytes: int, head: bytes, tail: bytes) -> bool:
    """``head``: at least its first four bytes; ``tail``: its last 1024."""
    if size_bytes < _SIZE_MIN:
        return False
    if packing_of(head) is not Packing.NONE:
        return True
    return size_bytes > TAIL_BYTES and size_bytes % 512 == 0 and tail == bytes(TAIL_BYTES)
