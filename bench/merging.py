"""A merge that can be repeated: the child is a link to a template, the base is cut back to what it was.

The blocks that were overwritten in the base stay so: only their content differs, which no merge looks at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.data import spread, write_vhd
from bench.measure import cold, opened, warm
from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES
from vhd.merge.run import apply_merge
from xobackup.repository.codecs import CODECS
from xobackup.repository.workspace import RemoteWorkspace

BASE, CHILD, TEMPLATE = "1.vhd", "2.vhd", "child.template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """``head`` is the base up to its first block, ``tail`` its footer at ``length - 512``."""

    directory: Path
    head: bytes
    tail: bytes
    length: int
    changed: int

    @property
    def child_bytes(self) -> int:
        return self.changed * BLOCK_BYTES

    def reset(self, *, warm_child: bool | None = True) -> None:
        """Base and child as they were, durable; the child in the page cache, out of it, or as it may be (None)."""
        base, child, template = (self.directory / name for name in (BASE, CHILD, TEMPLATE))
        if child.exists() and not child.samefile(template):
            child.replace(base)
        child.unlink(missing_ok=True)
        for state in self.directory.glob(".*.merge.json"):
            state.unlink()
        with opened(base, os.O_RDWR) as fd:
            os.ftruncate(fd, self.length)
            os.pwrite(fd, self.head, 0)
            os.pwrite(fd, self.tail, self.length - len(self.tail))
        child.hardlink_to(template)
        cold(base)
        if warm_child is not None:
            (warm if warm_child else cold)(template)

    def merge(self) -> None:
        remote = LocalRemote(self.directory)
        result = apply_merge(RemoteWorkspace(remote, ""), (BASE, CHILD), CODECS)
        assert result.bytes_moved == self.child_bytes
        remote.close()


def make(directory: Path, *, base_blocks: int, changed: int, size_bytes: int | None = None) -> Repeated:
    """A base of ``base_blocks`` and a child of ``changed``, a third of them not in the base."""
    fresh = changed // 3
    size_bytes = size_bytes or (base_blocks + fresh) * BLOCK_BYTES
    total = size_bytes // BLOCK_BYTES
    used = spread(base_blocks + fresh, total, seed=5) if total > base_blocks + fresh else list(range(total))
    new = set(spread(fresh, len(used), seed=6))
    base = [index for at, index in enumerate(used) if at not in new]
    overwritten = [base[at] for at in spread(changed - fresh, len(base), seed=7)]
    child = sorted(overwritten + [used[at] for at in new])
    path = write_vhd(directory, BASE, base, size_bytes=size_bytes, number=1)
    write_vhd(directory, TEMPLATE, child, size_bytes=size_bytes, number=2, parent=BASE)
    length = path.stat().st_size
    with opened(path, os.O_RDONLY) as fd:
        tail = os.pread(fd, 512, length - 512)
    return Repeated(directory=directory, head=_head(path), tail=tail, length=length, changed=len(child))


def _head(path: Path) -> bytes:
    from vhd.layout import first_slot_offset
    from vhd.reader import VhdFile

    remote = LocalRemote(path.parent)
    file = remote.open(path.name)
    header = VhdFile.open(file).header
    assert header is not None
    file.close()
    remote.close()
    with opened(path, os.O_RDONLY) as fd:
        return os.pread(fd, first_slot_offset(header.table_entries), 0)
