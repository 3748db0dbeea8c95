"""Bit rot: a storage that gives back other bytes than it took, and says nothing."""

from __future__ import annotations

from remotes.contract import Remote
from vhd.block import BLOCK_BYTES
from vhd.reader import VhdFile
from vhd.workspace import open_disk
from xobackup.repository.codecs import CODECS, BrotliCodec
from xobackup.repository.workspace import RemoteWorkspace
from xotest.backups import JOB, VM, live_uuid


def flip_bit(remote: Remote, point: str, index: int, *, disk: int = 0) -> None:
    """Flip a bit in block ``index`` of a disk of a :class:`xotest.backups.Guest`."""
    lineage = f"xo-vm-backups/{VM}/vdis/{JOB}/{live_uuid(disk)}"
    workspace = RemoteWorkspace(remote, lineage)
    if not workspace.exists(f"{point}.vhd"):
        name = f"{lineage}/data/{point}.vhd/blocks/0/{index}"
        raw = bytearray(CODECS["brotli"].decompress(remote.get(name), BLOCK_BYTES + 512))
        raw[-1] ^= 1
        remote.put(name, BrotliCodec().compress(raw))
        return
    opened = open_disk(workspace, f"{point}.vhd", CODECS)
    assert isinstance(opened, VhdFile)
    end = opened.block_span(index)[1] + BLOCK_BYTES - 1
    opened.close()
    file = workspace.update(f"{point}.vhd")
    byte = bytearray(1)
    file.read_into(end, memoryview(byte))
    file.write_at(end, bytes([byte[0] ^ 1]))
    file.sync()
    file.close()
