"""Everything a plan is decided from, read once: the replicas' pool, and what the VMs themselves do, where that can be
asked. A pool that does not answer is a fact like another."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.engine.replication.points import CLASSES, Records
from xobackup.engine.replication.site import ReplicaSite, open_site
from xobackup.xapi.errors import XapiError, XapiFailure

if TYPE_CHECKING:
    from xobackup.engine.dr.spec import Plan
    from xobackup.engine.job import PoolTarget
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

ASKED_MAX = 8
"""Pools that are asked at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A VM where it was before the disaster. ``nics``: as :func:`xobackup.engine.replication.records.nics` takes
    them."""

    pool: str
    uuid: str
    name: str
    tags: tuple[str, ...] = ()
    power_state: str = "Halted"
    nics: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """``records``: of the replicas' pool, :data:`CLASSES` and ``VIF``; ``free_bytes``: memory by enabled host."""

    site: ReplicaSite
    records: Records
    free_bytes: Mapping[str, int]
    originals: Mapping[str, Original]
    """By uuid, of the pools that answered."""
    silent: Mapping[str, str] = field(default_factory=dict)
    """Pools that did not, and why."""


def look(world: World, session: Session, plan: Plan, sources: Sequence[PoolTarget]) -> Look:
    """Raises :class:`UsageError` for an SR that is not there, and from the XapiError tree for the replicas' pool."""
    pool_uuid = next((str(one["uuid"]) for one in session.records("pool").values()), "")
    site = open_site(plan.target, session, pool_uuid)
    records: dict[str, Mapping[str, dict[str, Any]]] = {cls: session.records(cls) for cls in (*CLASSES, "VIF")}
    originals: dict[str, Original] = {
        one.uuid: one for one in _vms(plan.target.pool.name, records["VM"], records["VIF"], site.networks, site.pifs)
    }
    silent: dict[str, str] = {}
    others = [one for one in sources if one.name != plan.target.pool.name]
    with ThreadPoolExecutor(ASKED_MAX, thread_name_prefix="dr") as threads:
        for pool, found in zip(others, threads.map(lambda one: _ask(world, one), others), strict=True):
            if isinstance(found, str):
                silent[pool.name] = found
            else:
                originals |= {one.uuid: one for one in found}
    return Look(site=site, records=records, free_bytes=_free(session), originals=originals, silent=silent)


def _ask(world: World, pool: PoolTarget) -> list[Original] | str:
    try:
        with contextlib.closing(world.connect(pool.address)) as session:
            vms, vifs, networks, pifs = (session.records(cls) for cls in ("VM", "VIF", "network", "PIF"))
            return _vms(pool.name, vms, vifs, networks, pifs)
    except XapiError as error:
        return str(error)


def _vms(
    pool: str,
    vms: Mapping[str, dict[str, Any]],
    vifs: Mapping[str, dict[str, Any]],
    networks: Mapping[str, dict[str, Any]],
    pifs: Mapping[str, dict[str, Any]],
) -> list[Original]:
    """Ordinary VMs: no snapshot, template or control domain. Pure."""
    return [
        Original(
            pool=pool,
            uuid=str(vm.get("uuid")),
            name=str(vm.get("name_label", "")),
            tags=tuple(vm.get("tags") or ()),
            power_state=str(vm.get("power_state", "")),
            nics={ref: _nic(vifs[ref], networks, pifs) for ref in vm.get("VIFs") or () if ref in vifs},
        )
        for vm in vms.values()
        if not vm.get("is_a_snapshot") and not vm.get("is_a_template") and not vm.get("is_control_domain")
    ]


def _nic(
    vif: dict[str, Any], networks: Mapping[str, dict[str, Any]], pifs: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    network = networks.get(str(vif.get("network")), {})
    found = {**vif, "$network$uuid": network.get("uuid"), "$network$name_label": network.get("name_label")}
    vlans = [int(pifs[ref].get("VLAN", -1)) for ref in network.get("PIFs") or () if ref in pifs]
    return {**found, "$network$VLAN": vlans[0]} if vlans else found


def _free(session: Session) -> dict[str, int]:
    found: dict[str, int] = {}
    for ref, host in session.records("host").items():
        if host.get("enabled", True):
            with contextlib.suppress(XapiFailure):  # a host that is down has none to give
                found[str(host.get("name_label") or host.get("uuid"))] = int(
                    session.call("host.compute_free_memory", ref)
                )
    return found
