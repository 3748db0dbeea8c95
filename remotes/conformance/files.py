"""Promises about files that are written at any offset."""

from __future__ import annotations

import contextlib
import mmap
import random

from remotes import errors
from remotes.conformance.suite import Scratch, Skipped, expect, expect_bytes, expect_raises, promises
from remotes.contract import ReadableFile, WritableFile

MIB = 1 << 20
BLOCK_BYTES = 2 * MIB


def _need_random_access(scratch: Scratch) -> None:
    if not scratch.remote.capabilities.random_access:
        raise Skipped("this remote has only whole objects")


def read(file: ReadableFile, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    return bytes(buffer[: file.read_into(offset, memoryview(buffer))])


def aligned(content: bytes) -> memoryview:
    """The content in memory that a storage may take without copying."""
    memory = mmap.mmap(-1, len(content))  # freed with its last view
    memory[:] = content
    return memoryview(memory)


def a_file_is_created_once(scratch: Scratch) -> None:
    _need_random_access(scratch)
    remote, name = scratch.remote, scratch.name("deep/file")
    with contextlib.closing(remote.create(name)) as file:
        expect(file.size() == 0, "a new file is not empty")
        expect_raises(errors.AlreadyExists, lambda: remote.create(name), "create an existing name")
        file.write_at(0, b"content")
        file.sync()
        expect_bytes(b"content", remote.get(name), "read beside the writer")
    with contextlib.closing(remote.update(name)) as file:
        file.write_at(3, b"T")
        file.sync()
    expect_bytes(b"conTent", remote.get(name), "after an update")


def a_file_is_read_at_any_offset(scratch: Scratch) -> None:
    remote, name = scratch.remote, scratch.name("file")
    content = random.Random(1).randbytes(MIB + 333)
    remote.put(name, content)
    with contextlib.closing(remote.open(name)) as file:
        expect(file.size() == len(content), f"expected {len(content)} bytes, found {file.size()}")
        for offset, length in ((0, 1), (0, len(content)), (4095, 8193), (len(content) - 5, 100), (len(content), 10)):
            expect_bytes(content[offset : offset + length], read(file, offset, length), f"{length} bytes at {offset}")
        expect(read(file, len(content) + MIB, 10) == b"", "reading far past the end gave bytes")


def random_writes_and_truncates_are_kept(scratch: Scratch) -> None:
    _need_random_access(scratch)
    rng = random.Random(2)
    wanted = bytearray()
    with contextlib.closing(scratch.remote.create(scratch.name("file"))) as file:
        for _ in range(60):
            offset, length = rng.randrange(2 * MIB), rng.choice((1, 511, 4096, 70_000, 300_000))
            if rng.randrange(5) == 0:
                file.truncate(offset)
                wanted = wanted[:offset].ljust(offset, b"\0")
                continue
            content = rng.randbytes(length)
            file.write_at(offset, content)
            file.written(offset, length)
            wanted = wanted.ljust(offset, b"\0")
            wanted[offset : offset + length] = content
        expect_bytes(bytes(wanted), read(file, 0, len(wanted) + 1), "before the sync")
        file.sync()
    expect_bytes(bytes(wanted), scratch.remote.get(scratch.name("file")), "opened again")


def aligned_blocks_and_small_writes_mix(scratch: Scratch) -> None:
    """Big aligned writes may take another way to the disk than small ones."""
    _need_random_access(scratch)
    rng = random.Random(3)
    wanted = bytearray(4 * BLOCK_BYTES + 512)
    with contextlib.closing(scratch.remote.create(scratch.name("file"))) as file:
        for slot in (0, 2, 1, 3, 2):
            content = rng.randbytes(BLOCK_BYTES)
            file.write_at(slot * BLOCK_BYTES, aligned(content))
            wanted[slot * BLOCK_BYTES : (slot + 1) * BLOCK_BYTES] = content
            file.written(slot * BLOCK_BYTES, BLOCK_BYTES)
            small = rng.randbytes(512)
            file.write_at(slot * BLOCK_BYTES + 1024, small)
            wanted[slot * BLOCK_BYTES + 1024 : slot * BLOCK_BYTES + 1536] = small
            expect_bytes(bytes(small), read(file, slot * BLOCK_BYTES + 1024, 512), "just written")
        file.write_at(4 * BLOCK_BYTES, b"F" * 512)
        wanted[4 * BLOCK_BYTES :] = b"F" * 512
        file.sync()
    expect_bytes(bytes(wanted), scratch.remote.get(scratch.name("file")), "opened again")


def a_range_is_copied(scratch: Scratch) -> None:
    _need_random_access(scratch)
    remote = scratch.remote
    content = random.Random(4).randbytes(3 * MIB + 777)
    remote.put(scratch.name("source"), content)
    wanted = bytearray()
    with (
        contextlib.closing(remote.open(scratch.name("source"))) as source,
        contextlib.closing(remote.create(scratch.name("target"))) as target,
    ):
        for source_offset, offset, length in (
            (0, 4096, 2 * MIB),
            (4096, 8192, MIB),
            (1, 3, 70_001),
            (777, 5 * MIB, 3 * MIB),
            (0, 0, 0),
        ):
            target.copy_range(source, source_offset, offset, length)
            wanted = wanted.ljust(offset + length, b"\0")
            wanted[offset : offset + length] = content[source_offset : source_offset + length]
        with contextlib.suppress(errors.Unavailable):
            target.copy_range(source, 3 * MIB, 8 * MIB, MIB)
            expect(False, "copying past the end of the source succeeded")
        target.truncate(8 * MIB)
        target.sync()
        expect_bytes(bytes(wanted), read(target, 0, 8 * MIB), "the copy")


def a_file_may_be_larger_than_4_gib(scratch: Scratch) -> None:
    _need_random_access(scratch)
    far = (4 << 30) + 12345
    name = scratch.name("file")
    with contextlib.closing(scratch.remote.create(name)) as file:
        file.write_at(far, b"far")
        file.write_at(0, b"near")
        file.sync()
        expect(file.size() == far + 3, f"expected {far + 3} bytes, found {file.size()}")
        expect_bytes(b"\0far", read(file, far - 1, 100), "beyond 4 GiB")
        expect_bytes(bytes(100), read(file, 2 << 30, 100), "the hole")
        expect_bytes(b"near", read(file, 0, 4), "the start")
        expect(scratch.remote.stat(name).size_bytes == far + 3, "stat does not know the size")


def an_open_file_survives_its_rename(scratch: Scratch) -> None:
    _need_random_access(scratch)
    remote, old, new = scratch.remote, scratch.name("old"), scratch.name("new")
    with contextlib.closing(remote.create(old)) as file:
        file.write_at(0, b"before ")
        remote.rename(old, new)
        file.write_at(7, b"after")
        file.sync()
    expect_bytes(b"before after", remote.get(new), "after the rename")


def closed_and_read_only_files_refuse(scratch: Scratch) -> None:
    _need_random_access(scratch)
    remote, name = scratch.remote, scratch.name("file")
    file: WritableFile = remote.create(name)
    file.close()
    file.close()
    expect_raises(errors.NotSupported, lambda: file.write_at(0, b"x"), "write to a closed file")
    expect_raises(errors.NotSupported, lambda: read(file, 0, 1), "read from a closed file")


PROMISES = promises(
    a_file_is_created_once,
    a_file_is_read_at_any_offset,
    random_writes_and_truncates_are_kept,
    aligned_blocks_and_small_writes_mix,
    a_range_is_copied,
    a_file_may_be_larger_than_4_gib,
    an_open_file_survives_its_rename,
    closed_and_read_only_files_refuse,
)
