"""Records to create from records that were saved: what is copied, what is not, and what fills the gaps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xobackup.engine import keys
from xobackup.repository.metadata import PointDisk
from xobackup.xapi.image_format import KEY, VHD_MAX_BYTES, ImageFormat
from xobackup.xapi.values import NULL_REF

Record = dict[str, Any]
IMPORTING = "xobackup: the restore of this VM is not finished"
START_OPERATIONS = ("start", "start_on", "resume", "resume_on")

CD_DRIVES_MAX = 4
CD_DEVICE = "3"
"""Where XAPI puts a VM's first CD drive."""
BIOS_STRINGS = (
    *("bios-vendor", "bios-version", "system-manufacturer", "system-product-name", "system-version"),
    *("system-serial-number", "baseboard-manufacturer", "baseboard-product-name", "baseboard-version"),
    *("baseboard-serial-number", "baseboard-asset-tag", "baseboard-location-in-chassis", "enclosure-asset-tag"),
)
"""Those that a VM may be given."""

VM_FIELDS = (
    *("actions_after_crash", "actions_after_reboot", "actions_after_shutdown", "actions_after_softreboot"),
    *("HVM_boot_params", "HVM_boot_policy", "HVM_shadow_multiplier", "NVRAM", "PCI_bus", "PV_args", "PV_bootloader"),
    *("PV_bootloader_args", "PV_kernel", "PV_legacy_args", "PV_ramdisk", "VCPUs_at_startup", "VCPUs_max"),
    *("VCPUs_params", "domain_type", "generation_id", "hardware_platform_version", "has_vendor_device"),
    *("memory_dynamic_max", "memory_dynamic_min", "memory_static_max", "memory_static_min", "order", "platform"),
    *("recommendations", "reference_label", "shutdown_delay", "start_delay", "user_version", "version"),
    "xenstore_data",
)
"""Copied as they are. References to objects of the old pool are not."""
VM_DEFAULTS: Mapping[str, Any] = {
    "actions_after_crash": "restart",
    "actions_after_reboot": "restart",
    "actions_after_shutdown": "destroy",
    "HVM_boot_params": {"order": "cdn"},
    "HVM_boot_policy": "BIOS order",
    "PCI_bus": "",
    "PV_args": "",
    "PV_bootloader": "",
    "PV_bootloader_args": "",
    "PV_kernel": "",
    "PV_legacy_args": "",
    "PV_ramdisk": "",
    "VCPUs_at_startup": 1,
    "VCPUs_max": 1,
    "VCPUs_params": {},
    "memory_dynamic_max": 1 << 30,
    "memory_dynamic_min": 1 << 30,
    "memory_static_max": 1 << 30,
    "memory_static_min": 1 << 30,
    "platform": {},
    "recommendations": "",
    "user_version": 1,
}
"""For restore points whose record of the VM is incomplete: what ``VM.create`` insists on."""


def clean_config(config: object) -> dict[str, str]:
    """``other_config`` without the marks of backups."""
    if not isinstance(config, dict):
        return {}
    dropped = {*keys.RESET, keys.SR, keys.COPY_OF, keys.BASE_DELTA_VDI, keys.HEALTH_CHECK, keys.FAILED_OVER, keys.KIN}
    return {key: value for key, value in keys.without_claims(config).items() if key not in dropped}


def vm_record(
    vm: Record, *, name: str, description: str, tags: tuple[str, ...], new_macs: bool, run_id: str
) -> Record:
    """What ``VM.create`` takes, under a name that says it is not finished and with its start blocked."""
    record = {**VM_DEFAULTS, **{key: vm[key] for key in VM_FIELDS if vm.get(key) is not None}}
    if record.get("HVM_shadow_multiplier") == 1:
        del record["HVM_shadow_multiplier"]  # XenServer 7.2 stumbles over a float without a fraction
    config = clean_config(vm.get("other_config"))
    if new_macs:
        config.pop("mac_seed", None)
    return {
        **record,
        "affinity": NULL_REF,
        "appliance": NULL_REF,
        "suspend_SR": NULL_REF,
        "ha_restart_priority": vm.get("ha_restart_priority", ""),
        "is_a_template": False,
        "name_label": f"[Importing…] {name}",
        "name_description": description,
        "other_config": {**config, keys.RUN: run_id},
        "tags": list(dict.fromkeys([*(vm.get("tags") or []), *tags])),
        "blocked_operations": dict.fromkeys(START_OPERATIONS, IMPORTING),
    }


SUSPENDED_FIELDS = ("last_boot_CPU_flags", "last_booted_record")


def suspended_record(snapshot: Record, vm: Record) -> Record:
    """What makes a VM a suspended one, but for the reference of its memory."""
    fields = {name: snapshot.get(name) or vm.get(name) for name in SUSPENDED_FIELDS}
    return {"power_state": "Suspended", **{name: value for name, value in fields.items() if value}}


def memory_record(disk: PointDisk, vdi: Record, *, sr_ref: str, run_id: str) -> Record:
    """What ``VDI.create`` takes for the memory of a VM."""
    return {**vdi_record(disk, vdi, sr_ref=sr_ref, run_id=run_id), "type": "suspend", "tags": []}


def vdi_record(disk: PointDisk, vdi: Record, *, sr_ref: str, run_id: str) -> Record:
    """What ``VDI.create`` takes. ``sm_config`` is never copied: it describes the old storage."""
    config = {KEY: ImageFormat.QCOW2.value} if disk.virtual_size > VHD_MAX_BYTES else {}
    return {
        "name_label": disk.name_label,
        "name_description": vdi.get("name_description", ""),
        "SR": sr_ref,
        "virtual_size": disk.virtual_size,
        "type": vdi["type"] if vdi.get("type") in ("system", "user") else "user",
        "sharable": bool(vdi.get("sharable", False)),
        "read_only": False,
        "other_config": {**clean_config(vdi.get("other_config")), keys.RUN: run_id},
        "tags": list(vdi.get("tags") or []),
        "xenstore_data": dict(vdi.get("xenstore_data") or {}),
        "sm_config": config,
    }


def vbd_record(userdevice: str | None, vbd: Record) -> Record:
    """What ``VBD.create`` takes, but for its VM and VDI."""
    return {
        "userdevice": userdevice or "autodetect",
        "bootable": bool(vbd.get("bootable", False)),
        "mode": vbd.get("mode", "RW"),
        "type": "Disk",
        "empty": False,
        "unpluggable": bool(vbd.get("unpluggable", True)),
        "other_config": dict(vbd.get("other_config") or {}),
        "qos_algorithm_type": vbd.get("qos_algorithm_type", ""),
        "qos_algorithm_params": dict(vbd.get("qos_algorithm_params") or {}),
    }


def cd_drives_of(snapshot: object, vbds: object) -> int:
    """How many CD drives the VM had. Restore points describe disks only; what else the VM snapshot names as block
    devices are CD drives."""
    named = snapshot.get("VBDs") if isinstance(snapshot, dict) else None
    known = set(vbds) if isinstance(vbds, dict) else set()
    found = [ref for ref in named if ref not in known] if isinstance(named, list) else []
    return min(len(found), CD_DRIVES_MAX)


def cd_record(userdevice: str) -> Record:
    """What ``VBD.create`` takes for an empty CD drive, but for its VM."""
    return {
        "VDI": NULL_REF,
        "userdevice": userdevice,
        "bootable": False,
        "mode": "RO",
        "type": "CD",
        "empty": True,
        "unpluggable": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }


def vif_record(vif: Record, *, network: str, new_mac: bool) -> Record:
    """What ``VIF.create`` takes, but for its VM. An empty MAC lets the pool choose one."""
    return {
        "device": vif.get("device", "0"),
        "network": network,
        "MAC": "" if new_mac else vif.get("MAC", ""),
        "MTU": vif.get("MTU", 1500),
        "locking_mode": vif.get("locking_mode", "network_default"),
        "ipv4_allowed": list(vif.get("ipv4_allowed") or []),
        "ipv6_allowed": list(vif.get("ipv6_allowed") or []),
        "other_config": dict(vif.get("other_config") or {}),
        "qos_algorithm_type": vif.get("qos_algorithm_type", ""),
        "qos_algorithm_params": dict(vif.get("qos_algorithm_params") or {}),
    }
