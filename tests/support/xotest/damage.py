"""Repositories in memory, to be damaged cheaply: the golden ones as ``{name: bytes}``."""

from __future__ import annotations

import functools
import struct
from types import MappingProxyType

from xotest import golden


@functools.cache
def _content(name: str) -> MappingProxyType[str, bytes]:
    root = golden.pristine(name).root
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return MappingProxyType({str(path.relative_to(root)): path.read_bytes() for path in files})


def copy_of(name: str) -> dict[str, bytes]:
    """A golden repository; the mapping is the caller's, the bytes are shared."""
    return dict(_content(name))


def resummed(raw: bytes, at: int) -> bytes:
    """A footer (``at`` 64) or header (36) with its checksum made right again."""
    total = ~(sum(raw) - sum(raw[at : at + 4])) & 0xFFFFFFFF
    return raw[:at] + struct.pack(">I", total) + raw[at + 4 :]


def patched(raw: bytes, offset: int, data: bytes) -> bytes:
    return raw[:offset] + data + raw[offset + len(data) :]


def with_footer(vhd: bytes, offset: int, data: bytes) -> bytes:
    """A VHD file whose two footers have ``data`` at ``offset``, checksums right."""
    footer = resummed(patched(vhd[:512], offset, data), 64)
    return footer + vhd[512:-512] + footer


def with_header(vhd: bytes, offset: int, data: bytes) -> bytes:
    """A VHD file whose header has ``data`` at ``offset``, checksum right."""
    return vhd[:512] + resummed(patched(vhd[512:1536], offset, data), 36) + vhd[1536:]
