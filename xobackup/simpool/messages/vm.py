"""VM messages that make, change and remove VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from xobackup.simpool import attach, vdi_rules, vm_rules
from xobackup.simpool.failures import Failure
from xobackup.simpool.generic import create_members
from xobackup.simpool.messages import vif as vif_messages
from xobackup.simpool.registry import Call, message
from xobackup.simpool.toolstack import is_null

if TYPE_CHECKING:
    from xobackup.simpool.database import Database
    from xobackup.simpool.toolstack import Toolstack


@message("VM.create")
def create(call: Call, record: dict[str, Any]) -> str:
    members = create_members(call.database.model["VM"], record)
    check_memory(members)
    if "suspend_VDI" in members and is_null(members["suspend_VDI"]):
        members.pop("suspend_VDI")
    if members.get("power_state") != "Suspended" or "suspend_VDI" not in members:
        members["power_state"] = "Halted"
    if members.get("domain_type", "unspecified") == "unspecified":
        members["domain_type"] = "hvm" if members["HVM_boot_policy"] else "pv"
    return create_vm(call, members)


class Maker(Protocol):
    """Whoever makes VMs: a call, or an import."""

    @property
    def toolstack(self) -> Toolstack: ...

    @property
    def database(self) -> Database: ...


def create_vm(call: Call | Maker, members: dict[str, Any]) -> str:
    """A VM record with the objects that always come with one."""
    database = call.database
    other = {**members["other_config"]}
    other.setdefault("mac_seed", database.new_uuid())
    metrics = database.create(
        "VM_metrics",
        {
            "memory_actual": members["memory_static_max"],
            "VCPUs_number": members["VCPUs_max"],
            "last_updated": call.toolstack.now_text(),
        },
    )
    vm = database.create("VM", {**members, "other_config": other, "metrics": metrics, "domid": -1})
    vm_rules.refresh(database, vm)
    return vm


def check_memory(record: dict[str, Any]) -> None:
    """Raise ``MEMORY_CONSTRAINT_VIOLATION_ORDER`` unless the limits are in order."""
    limits = [record[f"memory_{name}"] for name in ("static_min", "dynamic_min", "dynamic_max", "static_max")]
    if limits != sorted(limits):
        raise Failure("MEMORY_CONSTRAINT_VIOLATION_ORDER")


@message("VM.destroy")
def destroy(call: Call, vm: str) -> None:
    """The VM and its devices go, its disks stay; snapshots of it survive."""
    database = call.database
    vm_rules.check(database, vm, "destroy")
    record = database.get("VM", vm)
    for child in list(record["children"]):
        database.update("VM", child, parent=record["parent"])
    disks = [database.get("VBD", vbd)["VDI"] for vbd in record["VBDs"]]
    database.destroy("VM", vm)
    for disk in disks:
        if not is_null(disk) and database.exists("VDI", disk):
            vdi_rules.refresh(database, disk)


@message("VM.set_is_a_template")
def set_is_a_template(call: Call, vm: str, value: bool) -> None:
    """Allowed on snapshots too (clients do it to make them look ordinary)."""
    if value and not call.database.get("VM", vm)["is_a_snapshot"]:
        vm_rules.check(call.database, vm, "make_into_template")
    call.database.update("VM", vm, is_a_template=value)
    vm_rules.refresh(call.database, vm)


@message("VM.set_memory_limits")
def set_memory_limits(  # noqa: PLR0917 - the message's own parameters
    call: Call, vm: str, static_min: int, static_max: int, dynamic_min: int, dynamic_max: int
) -> None:
    vm_rules.check(call.database, vm, "changing_memory_limits")
    limits = {
        "memory_static_min": static_min,
        "memory_static_max": static_max,
        "memory_dynamic_min": dynamic_min,
        "memory_dynamic_max": dynamic_max,
    }
    check_memory(limits)
    call.database.update("VM", vm, **limits)


@message("VM.set_memory_static_range")
def set_memory_static_range(call: Call, vm: str, low: int, high: int) -> None:
    _change_memory(call, vm, "changing_static_range", memory_static_min=low, memory_static_max=high)


@message("VM.set_memory_dynamic_range")
def set_memory_dynamic_range(call: Call, vm: str, low: int, high: int) -> None:
    _change_memory(call, vm, "changing_dynamic_range", memory_dynamic_min=low, memory_dynamic_max=high)


@message("VM.set_memory")
def set_memory(call: Call, vm: str, value: int) -> None:
    """All limits but the lowest become the same."""
    fixed = {f"memory_{name}": value for name in ("static_max", "dynamic_max", "dynamic_min")}
    _change_memory(call, vm, "changing_memory_limits", **fixed)


def _change_memory(call: Call, vm: str, operation: str, **changes: int) -> None:
    vm_rules.check(call.database, vm, operation)
    check_memory({**call.database.get("VM", vm), **changes})
    call.database.update("VM", vm, **changes)


@message("VM.update_allowed_operations")
def update_allowed_operations(call: Call, vm: str) -> None:
    vm_rules.refresh(call.database, vm)


@message("VM.assert_operation_valid")
def assert_operation_valid(call: Call, vm: str, operation: str) -> None:
    if operation in vm_rules.POWER:
        vm_rules.check(call.database, vm, operation)


@message("VM.get_allowed_VBD_devices")
def get_allowed_vbd_devices(call: Call, vm: str) -> list[str]:
    return attach.free_devices(call.database, vm)


@message("VM.get_allowed_VIF_devices")
def get_allowed_vif_devices(call: Call, vm: str) -> list[str]:
    return vif_messages.free_devices(call, vm)


@message("VM.get_possible_hosts")
def get_possible_hosts(call: Call, vm: str) -> list[str]:
    call.database.row("VM", vm)
    return [ref for ref, record in call.database.where("host") if record["enabled"]]


@message("VM.set_bios_strings")
def set_bios_strings(call: Call, vm: str, value: dict[str, str]) -> None:
    call.database.update("VM", vm, bios_strings=value)


@message("VM.set_VCPUs_max")
def set_vcpus_max(call: Call, vm: str, value: int) -> None:
    vm_rules.check(call.database, vm, "changing_VCPUs")
    if value < call.database.get("VM", vm)["VCPUs_at_startup"]:
        raise Failure("INVALID_VALUE", "VCPU values must satisfy: 0 < VCPUs_at_startup ≤ VCPUs_max", value)
    call.database.update("VM", vm, VCPUs_max=value)


@message("VM.set_VCPUs_at_startup")
def set_vcpus_at_startup(call: Call, vm: str, value: int) -> None:
    vm_rules.check(call.database, vm, "changing_VCPUs")
    if not 0 < value <= call.database.get("VM", vm)["VCPUs_max"]:
        raise Failure("INVALID_VALUE", "VCPU values must satisfy: 0 < VCPUs_at_startup ≤ VCPUs_max", value)
    call.database.update("VM", vm, VCPUs_at_startup=value)
