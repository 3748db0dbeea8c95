"""From a specification to the records of a pool, and their disks.

Every object that a client follows links to is there: host with metrics and control domain, SM drivers, repositories
with their PBDs, networks with a PIF per host, VMs with metrics, disks and interfaces.
"""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING, Any

from vhd.block import BLOCK_BYTES
from xobackup.simpool import attach, disks, vm_rules
from xobackup.simpool.build_host import build_host
from xobackup.simpool.build_storage import build_drivers, build_repository
from xobackup.simpool.content import Seeded
from xobackup.simpool.guest import GUEST
from xobackup.simpool.messages.vm_life import SHUTDOWN, start_vm
from xobackup.simpool.messages.vm_memory import suspend_vm
from xobackup.simpool.values import NULL

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.simpool.spec import DiskSpec, PoolSpec, VmSpec
    from xobackup.simpool.toolstack import Toolstack

IPV6 = "::1"
EFI_VARIABLES_BYTES = 20_000
VTPM_BYTES = 3_000


def build_pool(toolstack: Toolstack, spec: PoolSpec, directory: Path, *, addresses: list[str]) -> None:
    """Fill an empty database and an empty directory."""
    database = toolstack.database
    with database.lock:
        hosts = [build_host(toolstack, spec, one, at) for one, at in zip(spec.hosts, addresses, strict=True)]
        networks = {name: _network(toolstack, name, number, hosts) for number, name in enumerate(spec.networks)}
        for ref, host in zip(hosts, spec.hosts, strict=True):
            if host.ipv6:
                first = database.get("host", ref)["PIFs"][0]
                database.update("PIF", first, IPv6=[f"{IPV6}/128"], ipv6_configuration_mode="Static")
        if spec.nbd:
            database.update("network", next(iter(networks.values())), purpose=[spec.nbd])
        build_drivers(toolstack, spec)
        srs = {one.name: build_repository(toolstack, one, hosts, directory) for one in spec.srs}
        usable = [ref for ref in srs.values() if ref in toolstack.stores]
        default = usable[0] if usable else NULL
        database.create(
            "pool",
            {
                "name_label": spec.name,
                "master": hosts[0],
                "default_SR": default,
                "suspend_image_SR": default,
                "crash_dump_SR": default,
                "restrictions": {"restrict_cbt": "false", "restrict_vswitch_controller": "true"},
                "cpu_info": {"cpu_count": "8", "socket_count": "1", "vendor": "GenuineIntel"},
            },
        )
        for number, vm in enumerate(spec.vms):
            _vm(toolstack, vm, number, srs, networks)
        for one in spec.srs:
            if one.read_only and srs[one.name] in toolstack.stores:
                toolstack.stores[srs[one.name]].read_only = True


def _network(toolstack: Toolstack, name: str, number: int, hosts: list[str]) -> str:
    database = toolstack.database
    network = database.create("network", {"name_label": name, "bridge": f"xenbr{number}", "MTU": 1500})
    for index, host in enumerate(hosts):
        metrics = database.create("PIF_metrics", {"carrier": True, "device_name": "simulated"})
        database.create(
            "PIF",
            {
                "device": f"eth{number}",
                "network": network,
                "host": host,
                "MAC": f"02:00:00:00:{index:02x}:{number:02x}",
                "MTU": 1500,
                "VLAN": -1,
                "physical": True,
                "currently_attached": True,
                "management": number == 0,
                "metrics": metrics,
                "ip_configuration_mode": "Static" if number == 0 else "None",
                "IP": database.get("host", host)["address"].partition(":")[0] if number == 0 else "",
                "netmask": "255.255.255.0" if number == 0 else "",
            },
        )
    return network


def vm_record(spec: VmSpec) -> dict[str, Any]:
    """The members of a VM's record that its specification fixes."""
    return {
        "name_label": spec.name,
        "name_description": spec.description,
        "tags": list(spec.tags),
        "is_a_template": spec.template,
        "memory_static_max": spec.memory_bytes,
        "memory_dynamic_max": spec.memory_bytes,
        "memory_dynamic_min": spec.memory_bytes,
        "memory_static_min": spec.memory_bytes // 2,
        "VCPUs_max": 2,
        "VCPUs_at_startup": 2,
        "actions_after_reboot": "restart",
        "actions_after_crash": "restart",
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {"order": "cdn", "firmware": "bios"},
        "platform": {"acpi": "true", "apic": "true", "nx": "true", "pae": "true", "viridian": "false"},
        "domain_type": "hvm",
        "power_state": "Halted",
        "domid": -1,
        **(_uefi(spec) if spec.uefi else {}),
    }


def _uefi(spec: VmSpec) -> dict[str, Any]:
    """What a VM with UEFI and secure boot has instead."""
    return {
        "HVM_boot_params": {"order": "cdn", "firmware": "uefi"},
        "platform": {"acpi": "1", "secureboot": "true", "device-model": "qemu-upstream-uefi", "vtpm": "true"},
        "NVRAM": {"EFI-variables": _secret(f"{spec.name} EFI variables", EFI_VARIABLES_BYTES)},
    }


def _secret(name: str, length: int) -> str:
    """Bytes that are the same for every run, as text."""
    return base64.b64encode(random.Random(name).randbytes(length)).decode()


def _vm(toolstack: Toolstack, spec: VmSpec, number: int, srs: dict[str, str], networks: dict[str, str]) -> None:
    database = toolstack.database
    default = database.get("pool", toolstack.pool)["default_SR"]
    metrics = database.create("VM_metrics", {"memory_actual": spec.memory_bytes, "VCPUs_number": 2, "hvm": True})
    config = {"mac_seed": database.new_uuid()} | ({SHUTDOWN: spec.shutdown} if spec.shutdown else {})
    config |= {GUEST: spec.guest} if spec.guest else {}
    vm = database.create("VM", {**vm_record(spec), "metrics": metrics, "other_config": config})
    for position, disk in enumerate(spec.disks):
        sr = srs[disk.sr] if disk.sr else default
        name = disk.name or f"{spec.name} {position}"
        vdi = _disk(toolstack, disk, sr, name)
        device = str(position if position < 3 else position + 1)  # 3 is the CD drive's
        attach.create_vbd(
            database, {**_vbd(vm, vdi, device), "bootable": position == 0, "mode": "RW", "type": "Disk"}
        )
    if spec.cd_drive:
        image = next((ref for ref, _ in database.where("VDI", location="installer.iso")), NULL)
        drive = {**_vbd(vm, image, "3"), "mode": "RO", "type": "CD", "empty": image == NULL}
        attach.create_vbd(database, drive)
    for position, name in enumerate(spec.networks):
        network = networks[name] if name else next(iter(networks.values()))
        _vif(toolstack, vm, network, position, number)
    if spec.vtpm:
        vtpm = database.create("VTPM", {"VM": vm, "allowed_operations": ["destroy"]})
        toolstack.vtpm_contents[vtpm] = _secret(f"{spec.name} VTPM", VTPM_BYTES)
    if spec.power_state != "Halted":
        start_vm(toolstack, vm, host=toolstack.master)
    if spec.power_state == "Suspended":
        suspend_vm(toolstack, vm)
    vm_rules.refresh(database, vm)


def _vbd(vm: str, vdi: str, device: str) -> dict[str, Any]:
    return {
        "VM": vm,
        "VDI": vdi,
        "userdevice": device,
        "bootable": False,
        "empty": False,
        "unpluggable": True,
        "other_config": {"owner": ""},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }


def _vif(toolstack: Toolstack, vm: str, network: str, position: int, number: int) -> None:
    toolstack.database.create(
        "VIF",
        {
            "VM": vm,
            "network": network,
            "device": str(position),
            "MAC": f"02:16:3e:00:{number:02x}:{position:02x}",
            "MTU": 1500,
            "locking_mode": "network_default",
            "allowed_operations": ["attach"],
        },
    )


def _disk(toolstack: Toolstack, spec: DiskSpec, sr: str, name: str) -> str:
    record = {
        "SR": sr,
        "name_label": name,
        "virtual_size": spec.size_bytes,
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }
    vdi = disks.create_disk(toolstack, record)
    _fill(toolstack, sr, vdi, spec, name)
    return vdi


def _fill(toolstack: Toolstack, sr: str, vdi: str, spec: DiskSpec, name: str) -> None:
    """Data from the start of the disk, in pieces of half a block with gaps, the same for every run."""
    store, uuid = toolstack.stores[sr], toolstack.database.get("VDI", vdi)["uuid"]
    rng = random.Random(name)
    piece, offset, left = BLOCK_BYTES // 2, 0, spec.filled_bytes
    while left > 0 and offset < spec.size_bytes:
        source = Seeded(seed=rng.getrandbits(64), length=min(piece, left, spec.size_bytes - offset))
        data = source.read(0, source.length)
        store.write(uuid, offset, data)
        toolstack.written(vdi, offset, data, source)
        offset, left = offset + piece + (BLOCK_BYTES if rng.getrandbits(2) == 0 else 0), left - source.length
    disks.refresh_disks(toolstack, sr, [vdi])
