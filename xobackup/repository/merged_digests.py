"""Before a merge: what the digests of the merged disk will be, from those of the disks that go into it.

Nothing is read but tables, except blocks that are partial in the newest disk that has them: those are put together
as the merge will. For a merge that is resumed even these are left without a digest, since some have moved already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from vhd.block import SECTOR_BYTES, Bitmap, BlockBuffer, runs, union
from vhd.directory import VhdDirectory
from vhd.errors import VhdError
from vhd.reader import VhdFile
from vhd.workspace import open_disk
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.digests import DIGEST_BYTES, Digests, Entry, MemberBlocks, compare, entry_of, merged_digests
from xobackup.repository.workspace import RemoteWorkspace

DAMAGED = Entry(bytes(DIGEST_BYTES), None)
"""The entry of a block that is known to be wrong: no data have this digest."""


def prepare_digests(
    workspace: RemoteWorkspace,
    store: DigestStore,
    chain: Sequence[str],
    known: Mapping[str, UUID],
    *,
    resumed: bool = False,
) -> None:
    """Store the digests of what ``chain`` (root first) will become. ``known``: uuids that disks had before."""
    with contextlib.ExitStack() as stack:
        disks: list[VhdFile | VhdDirectory] = []
        for name in chain:
            disk = open_disk(workspace, name, CODECS, trailing_footer=not resumed)
            stack.callback(disk.close)
            disks.append(disk)
        members = [
            MemberBlocks(indexes=disk.block_indexes, digests=store.get(name, known.get(name, disk.footer.uuid)))
            for name, disk in zip(chain, disks, strict=True)
        ]
        if all(member.digests is None for member in members):
            return
        recompute = _nothing if resumed else _combining(disks, [member.digests for member in members])
        digests = merged_digests(members, disks[-1].footer.uuid, recompute)
    store.put_waiting(chain[-1], chain[0], digests)


def _nothing(_: int) -> Entry | None:
    return None


def _combining(
    disks: Sequence[VhdFile | VhdDirectory], digests: Sequence[Digests | None]
) -> Callable[[int], Entry | None]:
    """The entry of a block put together from ``disks`` (root first), newest sectors first.

    A block that is put together from one that is damaged gets :data:`DAMAGED`, so that the damage stays known.
    """
    whole, piece = BlockBuffer(), BlockBuffer()
    known = dict(zip(map(id, disks), digests, strict=True))

    def damaged(disk: VhdFile | VhdDirectory, index: int, bitmap: Bitmap, buffer: BlockBuffer) -> bool:
        entry = found.get(index) if (found := known[id(disk)]) is not None else None
        match = compare(entry, bitmap, buffer) if entry is not None else None
        return match is not None and match.comparable and not match.equal

    def entry(index: int) -> Entry | None:
        owners = [disk for disk in reversed(disks) if disk.has(index)]
        try:
            bitmap = owners[0].read_block(index, whole)
            if damaged(owners[0], index, bitmap, whole):
                return DAMAGED
            for disk in owners[1:]:
                if bitmap is None:
                    break
                present = disk.read_block(index, piece)
                if damaged(disk, index, present, piece):
                    return DAMAGED
                for first, count in runs(bitmap, present=False):
                    start, end = first * SECTOR_BYTES, (first + count) * SECTOR_BYTES
                    whole.data[start:end] = piece.data[start:end]
                bitmap = union(bitmap, present)
        except VhdError:
            return None
        if not disks[0].footer.differencing:  # nothing below it: absent sectors are zeros, and may be written so
            return entry_of(None, whole.data)
        return entry_of(bitmap, whole.data)

    return entry
