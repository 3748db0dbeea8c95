"""A restore point's description, in Xen Orchestra's keys, from XAPI's own records. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys

if TYPE_CHECKING:
    from xobackup.engine.job import Job
    from xobackup.engine.taking.taken import Taken

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Records around a VM that its restore point describes by uuid."""

    srs: Mapping[str, Record]
    networks: Mapping[str, Record]
    pifs: Mapping[str, Record]


def draft(
    job: Job,
    *,
    vm: Record,
    taken: Taken,
    timestamp_ms: int,
    paths: Mapping[str, str],
    bases: Mapping[str, str],
    around: Surroundings,
    stands_for: Sequence[str] = (),
) -> Record:
    """The restore point of one remote, to be completed and written by the repository.

    ``paths``: where each disk went, and ``bases``: uuid of the snapshot a delta continues, both by live VDI uuid.
    ``stands_for``: the periods of the long term that it opens there.
    ``vm``: the live VM's record as it was before this run blocked its migration.
    """
    vdis: dict[str, Record] = {}
    vhds: dict[str, str] = {}
    for live, path in paths.items():
        ref, record = taken.exported[live]
        vdis[ref] = _vdi(record, live, str(vm["uuid"]), bases.get(live, ""), around)
        vhds[ref] = path
    return {
        "jobId": job.id,
        "mode": "delta",
        "scheduleId": job.schedule_id,
        "timestamp": timestamp_ms,
        "vbds": {ref: record for ref, record in taken.vbds.items() if record["VDI"] in vdis},
        "vdis": vdis,
        "vifs": {ref: described_vif(record, around) for ref, record in taken.vifs.items()},
        "vhds": vhds,
        "vm": without_our_blocks(vm),
        "vmSnapshot": taken.described,
        "vtpms": list(taken.vtpms),
        "tags": list(stands_for),
    }


def draft_full(job: Job, *, vm: Record, taken: Taken, timestamp_ms: int, stands_for: Sequence[str] = ()) -> Record:
    """The restore point of a full backup, to be completed and written by the repository."""
    return {
        "jobId": job.id,
        "mode": "full",
        "scheduleId": job.schedule_id,
        "timestamp": timestamp_ms,
        "vm": without_our_blocks(vm),
        "vmSnapshot": taken.described if taken.snapshot else without_our_blocks(taken.described),
        "tags": list(stands_for),
    }


def without_our_blocks(vm: Record) -> Record:
    """The VM's record without operations that a backup had blocked, and its claim: no restore inherits them."""
    blocked, config = vm.get("blocked_operations"), vm.get("other_config")
    kept: Record = {}
    if isinstance(blocked, dict):
        texts = blocked.items()
        kept["blocked_operations"] = {operation: text for operation, text in texts if not keys.is_blocked_text(text)}
    if isinstance(config, dict):
        kept["other_config"] = keys.without_claims(config)
    return {**vm, **kept}


def _vdi(record: Record, live: str, vm_uuid: str, base: str, around: Surroundings) -> Record:
    config = {**record.get("other_config", {}), keys.VM: vm_uuid}
    if base:
        config[keys.BASE_DELTA_VDI] = base
    of = {} if record.get("type") == "suspend" else {"$snapshot_of$uuid": live}
    return {
        **record,
        "other_config": config,
        **of,
        "$SR$uuid": around.srs.get(str(record.get("SR")), {}).get("uuid", ""),
    }


def described_vif(record: Record, around: Surroundings) -> Record:
    network = around.networks.get(str(record.get("network")), {})
    extras: Record = {
        "$network$uuid": network.get("uuid", ""),
        "$network$name_label": network.get("name_label", ""),
    }
    pif = next((around.pifs[ref] for ref in network.get("PIFs", []) if ref in around.pifs), None)
    if pif is not None:
        extras["$network$VLAN"] = pif.get("VLAN", -1)
    return {**record, **extras}
