"""VHDs that other programs wrote: ``fixtures/vhd/foreign-vhds.tar.zst`` (see ``fixtures/README.md``)."""

from __future__ import annotations

import io
import tarfile
from functools import cache
from pathlib import Path

import zstandard

from xotest.memory_file import MemoryFile

ARCHIVE = Path(__file__).parents[3] / "fixtures" / "vhd" / "foreign-vhds.tar.zst"
NAMES = (
    "empty-64m.vhd",
    "child-64m.vhd",
    "grandchild-64m.vhd",
    "hidden-66m.vhd",
    "qemu-dynamic-64m.vhd",
    "qemu-fixed-64m.vhd",
)
QEMU_RAW_SHA256 = "6f272f08d1fdf45bed19a80e6b7a9b8c87118b92deb35c0a06a2f69c71bd55cf"


@cache
def _archive() -> bytes:
    with ARCHIVE.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        return reader.read()


def foreign(name: str) -> MemoryFile:
    """A fresh copy of one of :data:`NAMES`."""
    with tarfile.open(fileobj=io.BytesIO(_archive())) as tar:
        member = tar.extractfile(name)
        assert member is not None
        return MemoryFile(member.read(), name=name)
