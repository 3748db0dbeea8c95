"""Not promises but figures: what an operator wants to know of a storage before trusting a night's backup to it."""

from __future__ import annotations

import contextlib
import mmap
import random

from remotes.conformance.suite import Scratch, Skipped, expect, promises

BLOCK_BYTES = 2 << 20
BLOCKS = 32
OBJECTS = 20


def a_file_is_written_and_read_at_some_speed(scratch: Scratch) -> str:
    remote, clock = scratch.remote, scratch.clock
    if not remote.capabilities.random_access:
        raise Skipped("this remote has only whole objects")
    block = memoryview(mmap.mmap(-1, BLOCK_BYTES))  # freed with its last view
    block[:] = random.Random(5).randbytes(BLOCK_BYTES)
    begun_s = clock.monotonic_s()
    with contextlib.closing(remote.create(scratch.name("file"))) as file:
        for index in range(BLOCKS):
            file.write_at(index * BLOCK_BYTES, block)
            file.written(index * BLOCK_BYTES, BLOCK_BYTES)
        file.sync()
    written_s = clock.monotonic_s()
    with contextlib.closing(remote.open(scratch.name("file"))) as reader:
        for index in range(BLOCKS):
            count = reader.read_into(index * BLOCK_BYTES, block)
            expect(count == BLOCK_BYTES, f"expected {BLOCK_BYTES} bytes, found {count}")
    read_s = clock.monotonic_s()
    size = BLOCKS * BLOCK_BYTES
    return f"write and sync {_rate(size, written_s - begun_s)}, read {_rate(size, read_s - written_s)}"


def an_object_is_published_in_some_time(scratch: Scratch) -> str:
    remote, clock = scratch.remote, scratch.clock
    begun_s = clock.monotonic_s()
    for number in range(OBJECTS):
        remote.put(scratch.name(str(number)), b"small")
    spent_s = clock.monotonic_s() - begun_s
    return f"{1000 * spent_s / OBJECTS:.1f} ms for each of {OBJECTS} small objects"


def _rate(size_bytes: int, seconds: float) -> str:
    return f"{size_bytes / 2**20 / max(seconds, 1e-6):.0f} MiB/s"


PROMISES = promises(a_file_is_written_and_read_at_some_speed, an_object_is_published_in_some_time)
