"""How a remote locks what it is given: which objects, for how long. Pure.

What is locked, by name: disks (all of ``vdis/``), restore points, images, databases of pools. What is not, and why
nothing is lost with it: caches, merge states, locks and leases, notes on what is under way (rewritten all the time,
made again from the rest), digests and verification times (can be lost without losing a backup), what was set aside.
What an encryption needs is locked when it is put, and for longer by every run (:func:`remotes.faces.relock`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xobackup.repository.layout import VDIS, VM_BACKUPS

GOVERNANCE, COMPLIANCE, IMMUTABLE = "governance", "compliance", "immutable"
DAY_S = 86_400.0
ENCRYPTION_KEYS = "encryption-keys"
_KEYS = re.compile(rf"encryption\.json|metadata\.json|{ENCRYPTION_KEYS}/[^/]+\.json", re.ASCII)
_WHOLE = ("xo-pool-metadata-backups", "xo-config-backups")
_DATED = re.compile(r"\d{8}T\d{6}Z[^/]*", re.ASCII)


def is_key(name: str) -> bool:
    """Whether nothing on an encrypted remote can be read without this file."""
    return _KEYS.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRule:
    """``mode``: :data:`GOVERNANCE` or :data:`COMPLIANCE`, by the store as each object is put; :data:`IMMUTABLE`, by
    flags that somebody on the storage's machine sets and lifts."""

    mode: str
    days: float
    chain_days: float

    @property
    def lock_s(self) -> float:
        """How long an object stays locked: the last restore point that may need it was then protected for
        :attr:`days`."""
        return (self.days + self.chain_days) * DAY_S

    def seconds_of(self, name: str) -> float:
        """How long an object of that name is locked; 0: not at all."""
        head, _, inside = name.partition("/")
        if is_key(name) or head in _WHOLE:
            return self.lock_s
        if head != VM_BACKUPS or "/" not in inside:
            return 0.0
        below = inside.partition("/")[2]
        hidden = below.rpartition("/")[2].startswith(".")
        backup = _DATED.fullmatch(below) or (below.startswith(f"{VDIS}/") and not hidden)
        return self.lock_s if backup else 0.0
