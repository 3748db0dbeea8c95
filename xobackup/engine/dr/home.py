"""Where a VM belongs that was failed over, read from its original: SRs, networks, and what of it is there. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.dr.failover import AT_REST
from xobackup.engine.replication.seed import seed_of
from xobackup.engine.survey import Survey
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.engine.replication.points import Records

WHOLE = "all of it"
DIFFERENCE = "the differences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """``srs``: uuids, that of the first disk first; ``disk_srs``: by uuid of the disk that is failed over;
    ``networks``: uuids, by the NICs' devices; ``first``: what a first round would transfer."""

    srs: tuple[str, ...] = ()
    sr_names: str = ""
    disk_srs: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    first: str = ""
    problem: str = ""


def home_of(original: str, over_ref: str, there: Records, here: Records) -> Home:
    """``original``: the uuid of the VM at home; ``over_ref``: what was made of it, in the records of the other pool,
    ``there``."""
    ref, vm = next((ref, vm) for ref, vm in here["VM"].items() if vm.get("uuid") == original)
    if vm.get("power_state") not in AT_REST:
        return Home(problem="its original runs at home: shut that one down first")
    belongs = {device: vdi for device, vdi in _disks(ref, here) if vdi}
    if not belongs:
        return Home(problem="its original has no disk: nobody knows on which SR it belongs")
    srs = {device: here["SR"].get(str(vdi.get("SR")), {}) for device, vdi in belongs.items()}
    if any(not sr for sr in srs.values()):
        return Home(problem="an SR of its original is gone")
    uuids = {device: str(sr["uuid"]) for device, sr in srs.items()}
    over = {device: vdi for device, vdi in _disks(over_ref, there) if vdi}
    order = tuple(dict.fromkeys(uuids.values()))
    disk_srs = {str(vdi["uuid"]): uuids.get(device, order[0]) for device, vdi in over.items()}
    return Home(
        srs=order,
        sr_names=", ".join(dict.fromkeys(str(sr.get("name_label")) for sr in srs.values())),
        disk_srs=disk_srs,
        networks=_networks(ref, here),
        first=_first(over_ref, there, here, disk_srs),
    )


def turned_round(networks: Mapping[str, str | None]) -> dict[str, str | None]:
    """The way there as the way back, as far as it is one: two networks that became one cannot be told apart."""
    names = [there for here, there in networks.items() if there and not here.startswith("vlan:")]
    once = {there for there, count in Counter(names).items() if count == 1}
    return {
        there: here for here, there in networks.items() if there in once and not here.startswith("vlan:") and there
    }


def _disks(vm_ref: str, records: Records) -> Iterator[tuple[str, dict[str, Any]]]:
    """Devices and VDIs, in the devices' order."""
    vbds = [vbd for vbd in records["VBD"].values() if vbd.get("VM") == vm_ref and vbd.get("type") == "Disk"]
    for vbd in sorted(vbds, key=lambda one: (len(str(one.get("userdevice"))), str(one.get("userdevice")))):
        if not is_null(vbd.get("VDI")):
            yield str(vbd.get("userdevice")), records["VDI"].get(str(vbd["VDI"]), {})


def _networks(vm_ref: str, records: Records) -> dict[str, str]:
    found: dict[str, str] = {}
    for vif in records["VIF"].values():
        network = records["network"].get(str(vif.get("network")))
        if vif.get("VM") == vm_ref and network:
            found[str(vif.get("device"))] = str(network["uuid"])
    return found


def _first(over_ref: str, there: Records, here: Records, disk_srs: Mapping[str, str]) -> str:
    """As the first round would find it."""
    view = Survey(pool="", records=there).vm_view(str(there["VM"][over_ref]["uuid"]))
    whole: list[str] = []
    for disk in view.disks if view else ():
        seed = seed_of(disk.kin, here, srs=[disk_srs[disk.vdi_uuid]])
        if seed is None or seed.problem:
            label = disk.name or disk.userdevice
            content_key = there["VDI"][disk.vdi_ref].get("other_config", {}).get(keys.KIN, "")
            gone = (
                f"snapshot {content_key} is not at home any more"
                if content_key
                else "what it was made of is not known"
            )
            whole.append(f"{label}: {seed.problem if seed else gone}")
    return f"{WHOLE}: {'; '.join(whole)}" if whole else DIFFERENCE
