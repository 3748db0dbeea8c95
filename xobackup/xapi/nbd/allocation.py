"""Which blocks of an export hold anything, by the server's own map (``base:allocation``)."""

from __future__ import annotations

from collections import deque

from vhd.block import BLOCK_BYTES
from xobackup.xapi.nbd.connection import NbdConnection, Query

QUERY_BYTES = 1 << 30
"""Asked for at once; the server may answer for less, then the rest is asked for."""
QUERIES_MAX = 8
"""In flight at once."""


def allocated_blocks(connection: NbdConnection, size_bytes: int) -> list[int]:
    """Blocks with anything but zeros in them, ascending. After an error the connection must not be used any more."""
    count = -(-size_bytes // BLOCK_BYTES)
    holds = bytearray(count)
    todo = deque(Query(at, min(QUERY_BYTES, size_bytes - at)) for at in range(0, size_bytes, QUERY_BYTES))
    while todo or connection.in_flight:
        while todo and connection.in_flight < QUERIES_MAX:
            connection.submit([todo.popleft()])
        done = connection.next_done()
        assert isinstance(done, Query)
        if done.failure is not None:
            raise done.failure
        end = done.offset + done.length
        for extent in done.extents:
            if not extent.zero:
                first, last = extent.offset // BLOCK_BYTES, (extent.offset + extent.length - 1) // BLOCK_BYTES
                holds[first : last + 1] = b"\1" * (last + 1 - first)
        answered = done.extents[-1].offset + done.extents[-1].length
        if answered < end:
            todo.appendleft(Query(answered, end - answered))
    return [index for index, flag in enumerate(holds) if flag]
