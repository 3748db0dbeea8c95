"""Kinds of tasks. A worker publishes those that it knows besides VMs (``kinds`` in its reach), and serves a queue per
site and kind: an older worker is never brought what it does not know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from xobackup.workers.records import ANYWHERE

VM, GROUP, POOL, CHECKS = "vm", "group", "pool", "checks"
MIRROR, MIRROR_LIST = "mirror", "mirror-list"
OTHERS = (GROUP, POOL, CHECKS, MIRROR, MIRROR_LIST)
"""What this version does besides VMs."""
MEMBER = "member"
"""Not brought to anybody: one VM of a group, in the hands of whoever has the group."""
KINDS = "kinds"
"""The key in a worker's reach."""
QUEUE_MAX = 64


def kind_of(order: Mapping[str, Any]) -> str:
    """Of a task, by its order."""
    return str(order.get("kind") or VM)


def queue_of(site: str, kind: str) -> str:
    """Where tasks of a kind wait for workers of a site (or :data:`ANYWHERE`)."""
    if kind == VM:
        return site
    whole = f"{site}:{kind}"
    if len(whole) <= QUEUE_MAX:
        return whole
    return f"{hashlib.sha256(site.encode()).hexdigest()[:32]}:{kind}"


def site_of(queue: str) -> str:
    """The site of a queue, as far as it can be read from it."""
    return queue.partition(":")[0]


def queues_of(site: str, kinds: Sequence[str]) -> list[str]:
    """All that a worker serves; ``kinds``: besides VMs."""
    sites = [ANYWHERE, *([site] if site else [])]
    return [queue_of(one, kind) for kind in (VM, *kinds) for one in sites]


def knows(reach: Mapping[str, Sequence[str]], kind: str) -> bool:
    """Whether a worker with this reach does tasks of the kind."""
    return kind == VM or kind in reach.get(KINDS, ())
