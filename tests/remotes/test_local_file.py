"""An open file: the way past the page cache, shared extents, and errors that must not be forgotten."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotes import errors, write_behind
from remotes.local import LocalRemote
from remotes.local_file import LocalFile
from remotes.memory import MemoryRemote
from xotest.mounts import loop, tmpfs

BLOCK = 2 << 20
SLOT = BLOCK + 4096


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[LocalRemote]:
    made = LocalRemote(tmp_path)
    yield made
    made.close()


def aligned(seed: int, length: int = SLOT) -> memoryview:
    memory = mmap.mmap(-1, length)
    memory[:] = random.Random(seed).randbytes(length)
    return memoryview(memory)


def pwrites(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors written to from now on."""
    seen: list[int] = []
    genuine = os.pwrite

    def spy(descriptor: int, data: memoryview, offset: int) -> int:
        seen.append(descriptor)
        return genuine(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", spy)
    return seen


def test_only_big_aligned_writes_go_past_the_page_cache(remote: LocalRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(remote.create("file")) as file:
        descriptors = pwrites(monkeypatch)
        block = aligned(1)
        file.write_at(0, block)
        if len(set(descriptors)) != 1 or file._direct is None:
            pytest.skip("this file system has no O_DIRECT")
        direct = descriptors.pop()
        assert direct == file._direct
        for offset, data in (
            (512, block),
            (SLOT, block[512:]),
            (SLOT, block[: SLOT - 512]),
            (SLOT, block[:4096]),
            (SLOT, bytes(block)),
        ):
            file.write_at(offset, data)
        assert direct not in descriptors
        assert len(descriptors) == 5


def test_a_file_system_that_refuses_direct_writes_gets_buffered_ones(
    remote: LocalRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = os.pwrite
    refused = []
    with contextlib.closing(remote.create("file")) as file:

        def picky(descriptor: int, data: memoryview, offset: int) -> int:
            if descriptor == file._direct:
                refused.append(offset)
                raise OSError(errno.EINVAL, "invalid argument")
            return genuine(descriptor, data, offset)

        monkeypatch.setattr(os, "pwrite", picky)
        block = aligned(2)
        file.write_at(0, block)
        file.write_at(SLOT, block)
        file.sync()
        assert len(refused) <= 1, "it must not ask again and again"
    assert remote.get("file") == bytes(block) * 2


def test_a_direct_write_cut_short_goes_on(remote: LocalRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.pwrite
    with contextlib.closing(remote.create("file")) as file:
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: genuine(fd, data[: 1 << 20], offset))
        block = aligned(3)
        file.write_at(4096, block)
        monkeypatch.undo()
    assert remote.get("file") == bytes(4096) + bytes(block)


def test_a_lost_write_back_is_reported_by_every_sync(remote: LocalRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_descriptor: int, _offset: int, _length: int, _flags: int) -> int:
        write_behind.ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(write_behind, "_sync_file_range", failing)
    with contextlib.closing(remote.create("file")) as file:
        file.write_at(0, bytes(1000))
        file.written(0, 1000)
        monkeypatch.undo()
        for _ in range(2):
            with pytest.raises(errors.Unavailable, match="input/output") as caught:
                file.sync()
            assert not caught.value.transient


def test_a_disk_that_dies_behind_the_writer_is_noticed() -> None:
    with loop(64 << 20) as mounted:
        remote = LocalRemote(mounted.path)
        with contextlib.closing(remote.create("file")) as file:
            file.write_at(0, bytes(BLOCK))
            mounted.die()
            with pytest.raises(errors.Unavailable):
                for index in range(12):
                    file.write_at(index * BLOCK, bytes(BLOCK))
                    file.written(index * BLOCK, BLOCK)
                file.sync()
        remote.close()


def test_final_ranges_leave_the_page_cache(remote: LocalRemote) -> None:
    blocks = 24
    with contextlib.closing(remote.create("file")) as file:
        for index in range(blocks):
            file.write_at(index * BLOCK, bytes(BLOCK))
            file.written(index * BLOCK, BLOCK)
        assert len(file._behind._ranges) * BLOCK <= write_behind.WINDOW_BYTES
        file.sync()
        assert not file._behind._ranges
    assert remote.stat("file").size_bytes == blocks * BLOCK


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_an_aligned_copy_shares_extents(kind: str) -> None:
    with loop(400 << 20, kind=kind) as mounted:
        remote = LocalRemote(mounted.path)
        content = random.Random(6).randbytes(16 << 20)
        with contextlib.closing(remote.create("source")) as source, contextlib.closing(remote.create("t")) as target:
            source.write_at(0, content)
            source.sync()
            before = os.statvfs(mounted.path)
            for index in range(4):
                target.copy_range(source, index << 22, 4096 + (index << 22), 4 << 20)
                target.written(4096 + (index << 22), 4 << 20)
            target.sync()
            after = os.statvfs(mounted.path)
        used = (before.f_bfree - after.f_bfree) * before.f_frsize
        assert used < 2 << 20, f"{used} bytes were written instead of shared"
        assert remote.get("t") == bytes(4096) + content
        remote.close()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_copy_the_kernel_refuses_goes_through_memory(
    remote: LocalRemote, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    content = random.Random(7).randbytes(5 << 20)
    remote.put("source", content)
    genuine = os.copy_file_range
    calls = []

    def after_some(*args: int) -> int:
        calls.append(args)
        if len(calls) > 1:
            raise OSError(code, os.strerror(code))
        return genuine(args[0], args[1], 12345, *args[3:])

    monkeypatch.setattr(os, "copy_file_range", after_some)
    with contextlib.closing(remote.open("source")) as source, contextlib.closing(remote.create("target")) as target:
        target.copy_range(source, 1, 0, len(content) - 1)
    assert len(calls) == 2
    assert remote.get("target") == content[1:]


def test_a_copy_reports_a_full_disk() -> None:
    with tmpfs(3 << 20) as path:
        remote = LocalRemote(path)
        remote.put("source", bytes(2 << 20))
        with (
            contextlib.closing(remote.open("source")) as source,
            contextlib.closing(remote.create("target")) as target,
            pytest.raises(errors.NoSpace),
        ):
            target.copy_range(source, 0, 0, 2 << 20)
        remote.close()


def test_a_copy_from_another_kind_of_remote(remote: LocalRemote) -> None:
    memory = MemoryRemote()
    content = random.Random(8).randbytes((5 << 20) + 1)
    memory.put("source", content)
    with contextlib.closing(remote.create("target")) as target:
        target.copy_range(memory.open("source"), 0, 0, len(content))
    assert remote.get("target") == content
    with contextlib.closing(memory.create("back")) as back, contextlib.closing(remote.open("target")) as source:
        back.copy_range(source, 1, 0, len(content) - 1)
    assert memory.get("back") == content[1:]


def test_a_reader_may_say_what_comes_next(remote: LocalRemote) -> None:
    remote.put("object", bytes(100))
    with contextlib.closing(remote.open("object")) as file:
        assert isinstance(file, LocalFile)
        file.will_read(0, 1 << 40)
        assert file.read_into(0, memoryview(bytearray(200))) == 100


def test_open_files_give_back_their_descriptors(remote: LocalRemote) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        file = remote.create(f"file {number}")
        file.write_at(0, aligned(9))
        if number:
            file.sync()
        file.close()
        file.close()
        remote.open(f"file {number}").close()
        for failing in (lambda: remote.create("file 0"), lambda: remote.update("none"), lambda: remote.get("")):
            with pytest.raises(errors.RemoteError):
                failing()
    assert len(os.listdir("/proc/self/fd")) == before
