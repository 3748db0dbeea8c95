"""What a full backup will export: pure, with its reason and its bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xobackup.engine.job import Job
from xobackup.engine.view import DiskView

PIECE_BYTES = 1 << 20
PIECE_HEAD_BYTES = 1536
"""Of a piece of 1 MiB in an archive: its header, its checksum and the header of that."""
DESCRIPTION_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlan:
    """One VM as one archive."""

    compression: str
    remotes: tuple[str, ...]
    bound_bytes: int
    """What comes over is never more: every piece of every disk, packed as badly as can be."""
    reason: str


def plan_archive(job: Job, disks: Iterable[DiskView], remotes: tuple[str, ...]) -> ArchivePlan:
    """The archive of a VM with these disks, for ``remotes``."""
    compression = job.settings.compression
    packed = "not compressed" if compression == "none" else f"compressed by the host ({compression})"
    return ArchivePlan(
        compression=compression,
        remotes=remotes,
        bound_bytes=stream_bound(disks, compression),
        reason=f"the job makes full backups, {packed}",
    )


def stream_bound(disks: Iterable[DiskView], compression: str) -> int:
    """The longest stream that these disks can make. Compressing what cannot be compressed adds less than 1/500."""
    pieces = sum(-(-disk.virtual_size_bytes // PIECE_BYTES) for disk in disks)
    bound = DESCRIPTION_BYTES + pieces * (PIECE_BYTES + PIECE_HEAD_BYTES)
    return bound if compression == "none" else bound + bound // 500


def archive_data(plan: ArchivePlan) -> dict[str, Any]:
    """As JSON data."""
    return {
        "compression": plan.compression,
        "remotes": list(plan.remotes),
        "bound_bytes": plan.bound_bytes,
        "reason": plan.reason,
    }
