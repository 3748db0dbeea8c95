"""What of a VM its replica takes over, and how, as records and calls. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xobackup.engine.replication.marks import HA_TAG, TAG
from xobackup.engine.restore.plan import NIC_LABELS, Site, find_network, named
from xobackup.engine.restore.records import vif_record

if TYPE_CHECKING:
    from xobackup.engine.job import SrTarget

Record = dict[str, Any]
MUTABLE = (
    *("actions_after_crash", "actions_after_reboot", "actions_after_shutdown", "domain_type", "has_vendor_device"),
    *("HVM_boot_params", "HVM_boot_policy", "HVM_shadow_multiplier", "NVRAM", "order", "platform", "PV_args"),
    *("PV_bootloader", "PV_bootloader_args", "PV_kernel", "PV_legacy_args", "PV_ramdisk", "recommendations"),
    *("shutdown_delay", "start_delay", "user_version", "VCPUs_params", "xenstore_data"),
)
"""Fields with a call to set them. Memory and VCPUs have an order of their own."""
LIMITS = ("memory_static_min", "memory_static_max", "memory_dynamic_min", "memory_dynamic_max")
VIF_FIELDS = ("network", "MTU", "locking_mode", "ipv4_allowed", "ipv6_allowed")


def tags_of(vm: Mapping[str, Any], tag: str = TAG) -> list[str]:
    """The VM's own, and what Xen Orchestra tells of a replica by."""
    more = [tag, *([HA_TAG] if vm.get("ha_restart_priority") else [])]
    return list(dict.fromkeys([*(vm.get("tags") or []), *more]))


def changes(replica: Mapping[str, Any], vm: Mapping[str, Any]) -> list[tuple[str, tuple[Any, ...]]]:
    """Calls (message and arguments after the VM) that give a replica what its VM has by now."""
    calls: list[tuple[str, tuple[Any, ...]]] = []
    if any(replica.get(name) != vm.get(name) for name in LIMITS):
        calls.append(("VM.set_memory_limits", tuple(vm[name] for name in LIMITS)))
    at_most, at_start = "VCPUs_max", "VCPUs_at_startup"
    vcpus = [(f"VM.set_{name}", (vm[name],)) for name in (at_most, at_start) if replica.get(name) != vm.get(name)]
    growing = int(vm.get(at_most) or 0) >= int(replica.get(at_most) or 0)
    calls += vcpus if growing else reversed(vcpus)
    for name in MUTABLE:
        if name in vm and name in replica and vm[name] != replica[name]:
            calls.append((f"VM.set_{name}", (vm[name],)))
    if list(replica.get("tags") or []) != tags_of(vm):
        calls.append(("VM.set_tags", (tags_of(vm),)))
    if replica.get("ha_restart_priority"):
        calls.append(("VM.set_ha_restart_priority", ("",)))
    return calls


def nics(vifs: Mapping[str, Record], target: SrTarget, site: Site) -> tuple[list[Record], list[str]]:
    """The NICs of a replica as ``VIF.create`` takes them, but for its VM; and what had to be left out, as sentences.

    ``vifs``: with the networks' names and VLANs (:func:`xobackup.engine.publish.draft`). The target's table of
    networks counts first: by the network's name, its uuid, the NIC's device or MAC, or ``vlan:NUMBER``.
    """
    found: list[Record] = []
    left_out: list[str] = []
    for vif in sorted(vifs.values(), key=lambda one: (len(str(one.get("device"))), str(one.get("device")))):
        labels = [str(vif[key]) for key in NIC_LABELS if vif.get(key)]
        labels += [f"vlan:{vif['$network$VLAN']}"] if vif.get("$network$VLAN") is not None else []
        asked = next((label for label in labels if label in target.networks), None)
        wanted = target.networks[asked] if asked is not None else ""
        if wanted is None:
            continue
        network = named("network", wanted, site.networks) if wanted else find_network(vif, site)
        if network is None:
            was = vif.get("$network$name_label") or vif.get("$network$uuid") or "(unknown)"
            left_out.append(f"NIC {vif.get('device')}: no network like {was} in that pool, the replica has none")
            continue
        found.append(vif_record(vif, network=network, new_mac=target.new_macs))
    return found, left_out


def same_nic(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a replica's NIC can stay as it is."""
    mac = not wanted["MAC"] or str(existing.get("MAC", "")).lower() == str(wanted["MAC"]).lower()
    return mac and all(existing.get(name) == wanted.get(name) for name in VIF_FIELDS)
