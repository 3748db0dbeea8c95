"""The numbers: ``None`` means no limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of a process, or of a job."""

    vms_max: int | None = None
    """VMs at a time."""
    transfers_per_pool: int | None = None
    """Disks (or whole VMs, of full backups) being read at a time."""
    transfers_per_host: int | None = None
    """The same, by the host that serves them."""
    transfers_per_sr: int | None = None
    snapshots_per_pool: int | None = None
    """Being taken at a time."""
    snapshots_per_sr: int | None = None
    deletions_per_sr: int | None = None
    """Snapshots being deleted at a time."""
    deletion_pause_s: float = 0.0
    """Between two deletions of snapshots on the same SR, so that its garbage collector keeps up."""


NO_LIMITS = Limits()
PROCESS_DEFAULTS = Limits(transfers_per_pool=12, snapshots_per_pool=4, snapshots_per_sr=2, deletions_per_sr=1)
"""What a pool takes without trouble: twelve transfers are what Xen Orchestra allows itself."""
