"""How well what passes can be compressed, by a sample that costs little."""

from __future__ import annotations

import os

from vhd.block import BLOCK_BYTES, Block, BufferPool
from xobackup.engine.probe import FIRST, ONE_IN, PIECE_BYTES, PIECES, Probe


def share(*contents: bytes, times: int = 1) -> tuple[float | None, int]:
    probe, pool = Probe(), BufferPool(1)
    buffer = pool.acquire()
    for content in contents:
        buffer.data[:] = (content * (BLOCK_BYTES // len(content) + 1))[:BLOCK_BYTES]
        for index in range(times):
            probe.see(Block(index=index, bitmap=None, buffer=buffer))
    return probe.share, probe.sampled_bytes


def test_text_noise_and_nothing() -> None:
    text, noise = b"the same line of a log again\n", os.urandom(BLOCK_BYTES)
    assert share(bytes(512)) == (None, 0), "zeros say nothing"
    of_text, sampled = share(text)
    assert of_text is not None and of_text < 0.1 and sampled == PIECES * PIECE_BYTES
    of_noise, _ = share(noise)
    assert of_noise is not None and of_noise > 0.99
    mixed, _ = share(text, noise)
    assert mixed is not None and 0.4 < mixed < 0.6


def test_of_many_blocks_only_some_are_looked_at() -> None:
    _, sampled = share(os.urandom(BLOCK_BYTES), times=FIRST + 10 * ONE_IN)
    assert sampled == (FIRST + 10) * PIECES * PIECE_BYTES
