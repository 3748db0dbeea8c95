"""The steps that Xen Orchestra's runs consist of, call by call, through :class:`xotest.xoclient.XoClient`."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from xotest.nbdclient import NbdClient
from xotest.xoclient import BLOCKED, NULL, XoFailure

if TYPE_CHECKING:
    from xobackup.simpool import SimPool
    from xotest.xoclient import Record, XoClient

BLOCK = 2 << 20
SECTOR = 512
TEMPORARY = "xo-backup-temp-snapshot-name"
KEYS = (
    "datetime",
    "job",
    "schedule",
    "vm",
    "exported",
    "deltaChainLength",
    "contentKey",
    "includeNonNbdQcow2Fix",
)
RESET: dict[str, str | None] = {**{f"xo:backup:{key}": None for key in KEYS}, "xo:copy_of": None}
CREATED = (
    "actions_after_crash", "actions_after_reboot", "actions_after_shutdown", "HVM_boot_params",
    "HVM_boot_policy", "memory_dynamic_max", "memory_dynamic_min", "memory_static_max", "memory_static_min",
    "other_config", "PCI_bus", "platform", "PV_args", "PV_bootloader_args", "PV_bootloader", "PV_kernel",
    "PV_legacy_args", "PV_ramdisk", "recommendations", "user_version", "VCPUs_at_startup", "VCPUs_max",
    "VCPUs_params", "domain_type", "generation_id", "ha_restart_priority", "hardware_platform_version",
    "has_vendor_device", "is_vmss_snapshot", "name_description", "NVRAM", "order", "reference_label",
    "shutdown_delay", "start_delay", "tags", "version", "xenstore_data",
)  # fmt: skip
VDI_MEMBERS = (
    "name_description", "name_label", "other_config", "read_only", "sharable", "tags", "type", "virtual_size",
    "xenstore_data",
)  # fmt: skip
VBD_MEMBERS = (
    "bootable", "empty", "mode", "other_config", "qos_algorithm_params", "qos_algorithm_type", "type", "unpluggable",
    "userdevice",
)  # fmt: skip
VIF_MEMBERS = (
    "device", "MAC", "MTU", "locking_mode", "ipv4_allowed", "ipv6_allowed", "other_config", "qos_algorithm_params",
    "qos_algorithm_type",
)  # fmt: skip


# -- a run of one VM


def begin(xo: XoClient, vm: str) -> None:
    """No migration from now on; keys of earlier runs gone; everything seen before the snapshot is taken."""
    record = xo.call("VM.get_record", vm)
    assert not {"migrate_send", "pool_migrate"} & set(record["current_operations"].values())
    xo.block(vm, dict.fromkeys(BLOCKED, "VM migration is blocked during backup"))
    xo.mark(vm, RESET)
    xo.barrier()
    assert "pool_migrate" not in xo.record(vm)["allowed_operations"]


def end(xo: XoClient, vm: str) -> None:
    xo.barrier()
    xo.block(vm, dict.fromkeys(BLOCKED))


def chains_are_healthy(xo: XoClient, vm: str) -> bool:
    """No more than one hidden disk whose only child is another hidden one, above any disk of the VM."""
    by_uuid = {xo.record(ref)["uuid"]: xo.record(ref) for ref in xo.find("VDI", lambda _record: True)}
    children: dict[str, list[Record]] = {}
    for record in by_uuid.values():
        children.setdefault(record["sm_config"].get("vhd-parent", ""), []).append(record)
    for vdi in xo.disks(vm):
        links, parent = 0, xo.call("VDI.get_sm_config", vdi).get("vhd-parent")
        while parent in by_uuid:
            below = children.get(parent, [])
            links += not by_uuid[parent]["managed"] and len(below) == 1 and not below[0]["managed"]
            parent = by_uuid[parent]["sm_config"].get("vhd-parent")
        if links > 1:
            return False
    return True


def snapshot(
    xo: XoClient, vm: str, stamp: str, *, tracked: bool = False, memory: bool = False, ignored: tuple[str, ...] = ()
) -> str:
    """A snapshot with the marks of a job; with its memory where the VM runs and that is wanted."""
    for vdi in xo.disks(vm) if tracked else ():
        xo.call_async("VDI.enable_cbt", vdi)
    try:
        made = xo.call_async("VM.checkpoint" if memory else "VM.snapshot", vm, TEMPORARY, *_list(ignored))
    except XoFailure as failure:
        if failure.code == "VM_BAD_POWER_STATE" and memory:
            made = xo.call_async("VM.snapshot", vm, TEMPORARY)
        elif failure.code == "MESSAGE_PARAMETER_COUNT_MISMATCH":  # an older host: what is not wanted goes afterwards
            made = xo.call_async("VM.snapshot", vm, TEMPORARY)
            unwanted = [xo.call("VDI.get_uuid", vdi) for vdi in ignored]
            for vdi in xo.disks(made):
                if xo.call("VDI.get_uuid", xo.call("VDI.get_snapshot_of", vdi)) in unwanted:
                    xo.destroy_vdi(vdi)
        else:
            raise
    xo.call("VM.set_is_a_template", made, False)
    job = {"datetime": stamp, "job": "job-1", "schedule": "schedule-1", "vm": xo.call("VM.get_uuid", vm)}
    xo.mark(made, {f"xo:backup:{key}": value for key, value in job.items()})
    for vdi in xo.disks(made):
        xo.set_entries("VDI", vdi, "other_config", {"xo:backup:contentKey": xo.call("VDI.get_uuid", vdi)})
    xo.call("VM.set_name_label", made, f"[XO Backup job] {stamp}")
    return made


def _list(ignored: tuple[str, ...]) -> list[list[str]]:
    return [list(ignored)] if ignored else []


def exported(xo: XoClient, made: str, length: int) -> None:
    """The marks that make a snapshot the base of the next run."""
    xo.mark(made, {"xo:backup:deltaChainLength": str(length), "xo:backup:exported": "true"})


def base_of(xo: XoClient, vm: str) -> dict[str, str]:
    """Disks of the VM and their exported snapshots of the newest group."""
    live = xo.disks(vm)
    found = xo.find(
        "VDI",
        lambda record: (
            record["snapshot_of"] in live
            and record["other_config"].get("xo:backup:exported") == "true"
            and "xo:copy_of" not in record["other_config"]
        ),
    )
    newest = max((xo.record(ref)["other_config"]["xo:backup:datetime"] for ref in found), default="")
    return {
        xo.record(ref)["snapshot_of"]: ref
        for ref in found
        if xo.record(ref)["other_config"]["xo:backup:datetime"] == newest
    }


# -- reading a disk


def stream(xo: XoClient, vdi: str, base: str = "") -> bytes:
    """A disk, or what changed in it, as a VHD stream, held to what is known about one."""
    query = {"format": "vhd", "vdi": vdi} | ({"base": base} if base else {})
    body = xo.get("/export_raw_vdi/", "[XO] Exporting content of VDI", **query)
    assert body[:8] == b"conectix" == body[-512:-504] and body[:512] == body[-512:]
    return body


def table_of(body: bytes) -> dict[int, int]:
    """Index of each block of a stream, and the offset of its bitmap."""
    at, entries = struct.unpack_from(">QxxxxI", body, 512 + 16)
    sectors = struct.unpack_from(f">{entries}I", body, at)
    return {index: sector * SECTOR for index, sector in enumerate(sectors) if sector != 0xFFFFFFFF}


def lay_over(image: bytearray, body: bytes) -> None:
    """Apply a stream to a disk's content."""
    for index, offset in table_of(body).items():
        assert body[offset : offset + SECTOR] == b"\xff" * SECTOR
        length = min(BLOCK, len(image) - index * BLOCK)
        image[index * BLOCK : index * BLOCK + length] = body[offset + SECTOR : offset + SECTOR + length]


def map_by_stream(xo: XoClient, vdi: str, base: str = "") -> list[int]:
    """Which blocks a stream would have: its head is read, then it is given up."""
    query = {"format": "vhd", "vdi": vdi} | ({"base": base} if base else {})
    size = int(xo.call("VDI.get_virtual_size", vdi))
    head = xo.head("/export_raw_vdi/", 2048 + -(-size // BLOCK // 128) * SECTOR, **query)
    return sorted(table_of(head))


def map_by_tracking(xo: XoClient, vdi: str, base: str) -> list[int]:
    """Which blocks hold anything that changed: four bytes of the list stand for one."""
    assert xo.call("VDI.get_cbt_enabled", vdi) and xo.call("VDI.get_cbt_enabled", base)
    changed = base64.b64decode(xo.call_async("VDI.list_changed_blocks", base, vdi))
    return [at // 4 for at in range(0, len(changed), 4) if any(changed[at : at + 4])]


def blocks_by_nbd(xo: XoClient, pool: SimPool, vdi: str, indexes: list[int]) -> dict[int, bytes]:
    """Blocks of two mebibytes, over TLS as soon as a certificate is given."""
    info = xo.call("VDI.get_nbd_info", vdi)[0]
    assert info["cert"].startswith("-----BEGIN CERTIFICATE-----")
    with NbdClient(pool, info["port"], address=info["address"]) as nbd:
        size, _flags = nbd.flags().start_tls().export(info["exportname"])
        return {index: nbd.read_at(index * BLOCK, min(BLOCK, size - index * BLOCK)) for index in indexes}


# -- making a VM from a restore point


def create_vm(xo: XoClient, snapshot_record: Record, name: str, **more: Any) -> str:
    """A VM that nobody can start while it is being filled."""
    blocked = dict.fromkeys(("start", "start_on"), "Importing…")
    members = {key: snapshot_record[key] for key in CREATED}
    fixed = {
        "affinity": NULL,
        "appliance": NULL,
        "snapshot_schedule": NULL,
        "suspend_SR": NULL,
        "is_a_template": False,
    }
    empty = {"last_boot_CPU_flags": {}, "last_booted_record": ""}
    record = {
        **members,
        **fixed,
        **empty,
        "blocked_operations": blocked,
        "name_label": f"[Importing…] {name}",
        **more,
    }
    vm = str(xo.call("VM.create", record))
    xo.block(vm, blocked)
    strings = {key: value for key, value in snapshot_record["bios_strings"].items() if value}
    if strings:
        xo.call("VM.set_bios_strings", vm, strings)
    for vbd in xo.call("VM.get_VBDs", vm):
        xo.call("VBD.destroy", vbd)
    return vm


def create_disk(xo: XoClient, record: Record, sr: str) -> str:
    return str(xo.call("VDI.create", {**{key: record[key] for key in VDI_MEMBERS}, "SR": sr}))


def attach(xo: XoClient, vm: str, vdi: str, record: Record) -> None:
    xo.call("VBD.create", {**{key: record[key] for key in VBD_MEMBERS}, "VM": vm, "VDI": vdi})


def interfaces(xo: XoClient, vm: str, vifs: list[Record], *, new_macs: bool = False) -> None:
    for vif in xo.call("VM.get_VIFs", vm):
        xo.call("VIF.destroy", vif)
    for vif in vifs:
        mac = {"MAC": ""} if new_macs else {}
        members = {key: vif[key] for key in VIF_MEMBERS} | {"VM": vm, "network": vif["network"]}
        xo.call("VIF.create", {**members, **mac})


def fill(xo: XoClient, vdi: str, body: bytes) -> None:
    """A stream into a disk, whose name and keys say so meanwhile."""
    name = xo.call("VDI.get_name_label", vdi)
    xo.call("VDI.set_name_label", vdi, f"[Importing] {name}")
    xo.set_entries("VDI", vdi, "other_config", {"xo:import:length": str(len(body))})
    done = xo.put("/import_raw_vdi/", body, "[XO] Importing content into VDI", vdi=vdi, format="vhd")
    assert done == vdi
    xo.set_entries("VDI", vdi, "other_config", {"xo:import:length": None})
    xo.call("VDI.set_name_label", vdi, name)


def finish_vm(xo: XoClient, vm: str, name: str, *, blocked: str = "") -> None:
    """Its name, and who may start it: everybody, or nobody, with a reason."""
    xo.block(vm, dict.fromkeys(("start", "start_on"), blocked or None))
    xo.call("VM.set_name_label", vm, name)
    xo.mark(vm, RESET)
