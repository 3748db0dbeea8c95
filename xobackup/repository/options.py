"""How a repository is written; reading adapts to whatever is there."""

from __future__ import annotations

from dataclasses import dataclass

from vhd.block import BLOCK_BYTES
from vhd.header import ENTRIES_MAX
from vhd.layout import SIZE_MAX_BYTES
from xobackup.repository.codecs import ZSTD_LEVEL
from xobackup.repository.lock_rule import LockRule

DISK_MAX_BYTES = ENTRIES_MAX * BLOCK_BYTES
"""The largest disk that can be stored: what the table of a VHD directory has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryOptions:
    """``vhd_directory`` is Xen Orchestra's remote option ``useVhdDirectory``. Whatever it says, a disk that is too
    large for a file becomes a VHD directory (see :func:`as_directory`)."""

    vhd_directory: bool = False
    codec: str = "brotli"
    """For new chains of VHD directories; ``""`` is none. Xen Orchestra continues a chain only when it is brotli."""
    zstd_level: int | None = ZSTD_LEVEL
    """``None``: by what there is time for."""
    digests: bool = True
    """Keep block digests under ``.xobackup/``."""
    use_cache: bool = True
    """Listings may believe a verified ``cache.json.gz`` instead of reading every JSON."""
    lock: LockRule | None = None
    """Backups are locked there. Then no cache is kept, as Xen Orchestra keeps none where objects are locked."""
    lock_refresh_s: float = 2.0
    """How often a held lock is refreshed: well under the ten seconds after which it is stale."""
    lease_refresh_s: float = 10.0
    """The same of a lease, where a remote has those instead: well under the minute after which one is stale."""


def as_directory(virtual_size_bytes: int, *, vhd_directory: bool) -> bool:
    """Whether a disk is stored as a VHD directory: as the remote's option says, or because no file can hold it.

    Xen Orchestra reads, lists, merges and restores such a directory on any remote. It continues the chain of one only
    where the option is on, but without it could not store the disk either.
    """
    return vhd_directory or virtual_size_bytes > SIZE_MAX_BYTES
