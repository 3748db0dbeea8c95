"""Chains of disks that the storage has yet to coalesce: what was seen of them, for how long, and whether it changed.

A pool's garbage collector begins five minutes after the last change of a repository (facts on VHD trees) and works on
one disk at a time, so a chain that is too long now may be healthy in a quarter of an hour. A watch keeps what it saw
first and what it sees now: a chain in which a node came or went is being worked on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xobackup.engine.view import DiskView

POLL_S = 15.0
"""Between two looks at a pool whose chains are waited for."""
DEPTH_MAX = 30
"""Links of a chain at which the storage refuses another snapshot (SR_BACKEND_FAILURE_109)."""
DEPTH_WARN = 24
"""From here on it is said: with a snapshot a night, a week before the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An unhealthy chain as it was seen."""

    disk: str
    disk_name: str
    sr_name: str
    links: int
    """Of it that wait to be coalesced."""
    nodes: tuple[str, ...]
    switches: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One VM's unhealthy chains: as first seen, as seen last, and when they changed last."""

    since_s: float
    first: tuple[Chain, ...]
    now: tuple[Chain, ...]
    changed_s: float | None = None


def unhealthy_chains(disks: Iterable[DiskView], uncoalesced_max: int) -> tuple[Chain, ...]:
    """Those of ``disks`` that wait for the storage to coalesce more than ``uncoalesced_max`` links."""
    return tuple(
        Chain(
            disk=disk.vdi_uuid,
            disk_name=disk.name or disk.vdi_uuid,
            sr_name=disk.sr_name,
            links=disk.uncoalesced,
            nodes=disk.chain,
            switches=disk.coalescing_off,
        )
        for disk in disks
        if disk.uncoalesced > uncoalesced_max
    )


def seen(watch: Watch | None, chains: tuple[Chain, ...], now_s: float) -> Watch:
    """The watch after another look."""
    if watch is None:
        return Watch(since_s=now_s, first=chains, now=chains)
    changed = _nodes(chains) != _nodes(watch.now)
    return Watch(
        since_s=watch.since_s, first=watch.first, now=chains, changed_s=now_s if changed else watch.changed_s
    )


def _nodes(chains: tuple[Chain, ...]) -> Mapping[str, tuple[str, ...]]:
    return {chain.disk: chain.nodes for chain in chains}


def told(chains: Iterable[Chain], uncoalesced_max: int) -> str:
    """What is unhealthy, as a sentence; ``""`` when nothing is."""
    parts = [
        f"disk {chain.disk_name} on SR {chain.sr_name} has {chain.links} links waiting to be coalesced"
        for chain in chains
    ]
    return f"unhealthy VDI chain: {', '.join(parts)}; at most {uncoalesced_max} are healthy" if parts else ""


def refusal(watch: Watch, now_s: float, uncoalesced_max: int) -> tuple[str, str]:
    """The sentence and the hint when the waiting is over: what, for how long, whether it changed, why probably."""
    waited_s = now_s - watch.since_s
    sentence = told(watch.now, uncoalesced_max)
    switches = tuple(dict.fromkeys(switch for chain in watch.now for switch in chain.switches))
    if waited_s >= 1:
        sentence += f"; watched for {_minutes(waited_s)}: {_progress(watch, now_s)}"
    if switches:
        sentence += f"; probably because of {', '.join(switches)}"
    return sentence, _hint(watch, switches, waited_s)


def awaited(chains: Iterable[Chain], wait_max_s: float) -> str:
    """What a run will do about them, for who looks beforehand; ``""`` when there are none."""
    known = list(chains)
    if not known:
        return ""
    switches = tuple(dict.fromkeys(switch for chain in known for switch in chain.switches))
    waits = f"a run backs up others first and waits at most {_minutes(wait_max_s)} for it" if wait_max_s else ""
    off = f"the storage does not coalesce because of {', '.join(switches)}" if switches else ""
    return "; ".join(part for part in (waits, off) if part)


def _progress(watch: Watch, now_s: float) -> str:
    if watch.changed_s is None:
        return "nothing changed, the storage does not coalesce it"
    before = {chain.disk: chain.links for chain in watch.first}
    counts = [f"{before.get(chain.disk, chain.links)} then, {chain.links} now" for chain in watch.now]
    ago = now_s - watch.changed_s
    return f"the storage works on it (links: {', '.join(counts)}; it last changed {_minutes(ago)} ago)"


def _hint(watch: Watch, switches: tuple[str, ...], waited_s: float) -> str:
    if switches:
        return "let the storage coalesce again: take those switches out of other-config, then xe sr-scan uuid=SR"
    if watch.changed_s is not None:
        return "give it more time: raise chain_wait_s, lower snapshots_per_sr, or run the job less often"
    if waited_s < 1:
        return "let the run wait for it: chain_wait_s of the job"
    return "see /var/log/SMlog on the SR's master for what keeps its garbage collector; xe sr-scan uuid=SR starts it"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def depth_warnings(disks: Iterable[DiskView]) -> tuple[str, ...]:
    """A sentence for each disk whose chain is nearly as long as the storage allows."""
    return tuple(
        f"disk {disk.name or disk.vdi_uuid} on SR {disk.sr_name} has a chain of {disk.depth} links: at {DEPTH_MAX} "
        "the storage takes no snapshot any more (SR_BACKEND_FAILURE_109); delete snapshots, and let the SR coalesce"
        for disk in disks
        if disk.depth >= DEPTH_WARN
    )
