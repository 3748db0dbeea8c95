"""How a repository is written; reading adapts to whatever is there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryOptions:
    """``vhd_directory`` is Xen Orchestra's remote option ``useVhdDirectory``."""

    vhd_directory: bool = False
    codec: str = "brotli"
    """For new VHD directories. Xen Orchestra continues a chain only when it is brotli."""
    digests: bool = True
    """Keep block digests under ``.xobackup/``."""
    use_cache: bool = True
    """Listings may believe a verified ``cache.json.gz`` instead of reading every JSON."""
    lock_refresh_s: float = 2.0
    """How often a held lock is refreshed: well under the ten seconds after which it is stale."""
