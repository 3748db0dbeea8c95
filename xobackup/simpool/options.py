"""How a simulated pool behaves where real ones differ or where a test wants it faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from xobackup.simpool.releases import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Knobs of one pool; the defaults suit tests (nothing waits)."""

    release: Release = "8.3"
    """Of XCP-ng or XenServer: older ones lack calls and fields. :meth:`of_release` sets what else differs."""
    clock_skew_s: float = 0.0
    """How far the hosts' clocks are ahead."""

    failed_login_delay_s: float = 0.0
    """Pause before a refused login is answered (xapi: 5 s)."""
    event_batch_s: float = 0.005
    """How long an ``event.from`` that waited goes on collecting after the first change."""
    dom0_linger_s: float = 0.02
    """How long the control domain keeps a disk attached after a transfer."""
    auto_gc_s: float | None = None
    """Quiet time after which a storage repository collects its garbage by itself; ``None``: only when asked."""
    missing_messages: frozenset[str] = frozenset()
    """Messages this host does not know yet (``Class.message``)."""
    snapshot_takes_ignore_vdis: bool = True
    """Whether ``VM.snapshot`` knows its third parameter; older hosts refuse the longer form."""
    old_error_shape: bool = False
    """Answer JSON-RPC 2.0 requests with errors in the shape of hosts older than 7.3."""
    tls13: bool = False
    """Offer TLS 1.3 too; hosts do so only since 2026."""
    cbt_licensed: bool = True
    """Whether changed block tracking may be switched (XenServer without the edition for it: no)."""
    data_destroy_wait_s: float = 4.0
    """How long ``VDI.data_destroy`` waits for whoever holds the disk."""
    resize_online: bool = False
    """Whether ``VDI.resize_online`` exists and the storage drivers know it."""
    xva_checksum: Literal["xxhash", "sha1"] = "xxhash"
    """Checksums of the members of an exported VM; hosts up to 8.0 wrote SHA-1."""
    xva_alive_every: int | None = None
    """A sign of life (a member of length zero) before every so many pieces of 1 MiB; hosts send them when idle."""
    nbd_connections_max: int = 16
    """NBD connections that one host serves at a time; more are closed at once."""

    @classmethod
    def of_release(cls, release: Release, **others: Any) -> Options:
        """A pool that answers as this release does."""
        old: dict[str, Any] = {"snapshot_takes_ignore_vdis": release == "8.3"}
        if release == "7.1":
            old |= {"old_error_shape": True, "xva_checksum": "sha1"}
        return cls(release=release, **(old | others))
