"""The two epochs of VHD timestamps found in the wild.

The specification counts seconds since 2000-01-01 UTC. Xen Orchestra writes Unix seconds into the same field, which
a reader of the specification takes for a date thirty years in the future.
"""

from __future__ import annotations

VHD_EPOCH_UNIX_S = 946_684_800
"""Unix time of 2000-01-01 00:00 UTC."""


def to_vhd(unix_s: float) -> int:
    """Unix seconds as a VHD timestamp, clamped to the unsigned 32 bits of the field."""
    return min(max(int(unix_s) - VHD_EPOCH_UNIX_S, 0), 0xFFFFFFFF)


def to_unix(stamp: int, *, now_unix_s: float) -> int:
    """A VHD timestamp as Unix seconds, whichever epoch it was written in.

    Read in the 2000 epoch it may not lie more than a day in the future; if it does, it was Unix seconds.
    """
    spec = stamp + VHD_EPOCH_UNIX_S
    return spec if spec <= now_unix_s + 86_400 else stamp
