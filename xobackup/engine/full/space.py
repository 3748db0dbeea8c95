"""Whether a full backup will fit on a remote, judged before the first byte: pure.

How long the stream will be nobody knows: XAPI leaves out zeros and may compress. The last full of the same job is the
best guess there is; without one only the bound is known, and less room than that is worth a warning, not a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass

MARGIN = 1.1
"""How much larger than the last one it may turn out before there is no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """``fits`` False: the remote is left out of this run. ``doubt``: what to warn of."""

    fits: bool = True
    doubt: str = ""


def judge_room(*, free_bytes: int | None, bound_bytes: int, last_bytes: int | None) -> Room:
    """``last_bytes``: of the newest full of this job there; ``None`` for what is not known."""
    if free_bytes is None or free_bytes >= bound_bytes:
        return Room()
    if last_bytes:
        wanted = min(bound_bytes, int(last_bytes * MARGIN))
        if free_bytes < wanted:
            told = f"the last full backup took {last_bytes} bytes, {free_bytes} are free"
            return Room(fits=False, doubt=f"not enough space: {told}")
        return Room()
    told = f"it may take up to {bound_bytes} bytes, {free_bytes} are free"
    return Room(doubt=f"the space may not suffice: {told}")
