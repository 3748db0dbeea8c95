"""Copies inside the kernel: the right bytes at every offset, in the pieces that suit the file system."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotes.range_copy import FOLIO_BYTES, RangeCopy

SIZE = 5 * FOLIO_BYTES + 777


@pytest.fixture
def content() -> bytes:
    return random.Random(3).randbytes(SIZE)


@pytest.fixture
def files(tmp_path: Path, content: bytes) -> Iterator[tuple[int, int]]:
    """Descriptors of a source with content and of an empty target."""
    (tmp_path / "source").write_bytes(content)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield source, target
    os.close(source)
    os.close(target)


class Kernel:
    """Answers clones as told and notes the ranges that are copied instead: target offset, length."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[int]) -> None:
        self.answers = answers
        self.clones = 0
        self.copies: list[tuple[int, int]] = []
        self._genuine = os.copy_file_range
        monkeypatch.setattr(fcntl, "ioctl", self._ioctl)
        monkeypatch.setattr(os, "copy_file_range", self._copy)

    def _ioctl(self, *_: object) -> int:
        self.clones += 1
        code = self.answers.pop(0)
        if code:
            raise OSError(code, os.strerror(code))
        return 0

    def _copy(self, source: int, target: int, count: int, source_offset: int, offset: int) -> int:
        done = self._genuine(source, target, count, source_offset, offset)
        self.copies.append((offset, done))
        return done


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV])
def test_where_no_extents_are_shared_pieces_start_on_a_folio(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], code: int
) -> None:
    kernel = Kernel(monkeypatch, [code])
    ranges = RangeCopy()
    for offset in (4096, 3 * FOLIO_BYTES, 12 * FOLIO_BYTES + 1):
        assert ranges.copy(files[0], 0, files[1], offset, SIZE) == SIZE
    head = FOLIO_BYTES - 4096
    assert kernel.copies[:3] == [(4096, head), (FOLIO_BYTES, SIZE - head), (3 * FOLIO_BYTES, SIZE)]
    assert kernel.copies[3:] == [(12 * FOLIO_BYTES + 1, FOLIO_BYTES - 1), (13 * FOLIO_BYTES, SIZE - FOLIO_BYTES + 1)]
    assert kernel.clones == 1, "asked once"


def test_where_extents_are_shared_nothing_is_cut(monkeypatch: pytest.MonkeyPatch, files: tuple[int, int]) -> None:
    kernel = Kernel(monkeypatch, [0])
    ranges = RangeCopy()
    assert ranges.copy(files[0], 0, files[1], 4096, SIZE) == SIZE
    assert kernel.copies == [], "the clone was the copy"
    assert ranges.copy(files[0], 0, files[1], 4096, SIZE) == SIZE
    assert kernel.copies == [(4096, SIZE)]


def test_a_range_that_cannot_be_cloned_says_nothing_about_the_next(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int]
) -> None:
    kernel = Kernel(monkeypatch, [errno.EINVAL, errno.EOPNOTSUPP])
    ranges = RangeCopy()
    ranges.copy(files[0], 0, files[1], 4096, 8192)
    ranges.copy(files[0], 0, files[1], 4096, 2 * FOLIO_BYTES)
    assert kernel.copies == [(4096, 8192), (4096, FOLIO_BYTES - 4096), (FOLIO_BYTES, FOLIO_BYTES + 4096)]


def test_every_range_holds_what_the_source_holds(files: tuple[int, int], content: bytes) -> None:
    chance, expected = random.Random(4), bytearray(3 * SIZE)
    os.pwrite(files[1], expected, 0)
    ranges = RangeCopy()
    for _ in range(60):
        start, offset = chance.randrange(SIZE), chance.randrange(2 * SIZE)
        length = chance.randrange(SIZE - start)
        assert ranges.copy(files[0], start, files[1], offset, length) == length
        expected[offset : offset + length] = content[start : start + length]
    assert os.pread(files[1], 3 * SIZE, 0) == expected


def test_the_end_of_the_source_ends_the_copy(files: tuple[int, int]) -> None:
    assert RangeCopy().copy(files[0], SIZE - 10, files[1], 5, 100) == 10


def test_no_length_copies_nothing(files: tuple[int, int]) -> None:
    assert RangeCopy().copy(files[0], 0, files[1], 0, 0) == 0
    assert os.fstat(files[1]).st_size == 0


def test_a_full_disk_is_an_error_not_a_short_copy(monkeypatch: pytest.MonkeyPatch, files: tuple[int, int]) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="full"):
        RangeCopy().copy(files[0], 0, files[1], 1, 100)
