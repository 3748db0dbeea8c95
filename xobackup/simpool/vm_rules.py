"""May this operation be done on this VM now? xapi's checks in xapi's order; the first that fails wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.failures import Failure

if TYPE_CHECKING:
    from xobackup.simpool.database import Database, Record

_ANY = ("Halted", "Paused", "Suspended", "Running")
POWER: dict[str, tuple[str, ...]] = {
    "snapshot": _ANY,
    "clone": ("Halted", "Suspended"),
    "copy": ("Halted", "Suspended"),
    "create_template": ("Halted", "Suspended"),
    "revert": _ANY,
    "checkpoint": ("Paused", "Suspended", "Running"),
    "snapshot_with_quiesce": ("Running",),
    "provision": ("Halted",),
    "start": ("Halted",),
    "start_on": ("Halted",),
    "pause": ("Running",),
    "unpause": ("Paused",),
    "clean_shutdown": ("Running",),
    "clean_reboot": ("Running",),
    "hard_shutdown": ("Paused", "Suspended", "Running"),
    "power_state_reset": _ANY,
    "hard_reboot": ("Paused", "Running"),
    "suspend": ("Running",),
    "resume": ("Suspended",),
    "resume_on": ("Suspended",),
    "pool_migrate": ("Running",),
    "migrate_send": ("Halted", "Suspended", "Running"),
    "query_services": _ANY,
    "shutdown": ("Paused", "Suspended", "Running"),
    "changing_memory_live": ("Running",),
    "changing_dynamic_range": ("Halted", "Running"),
    "changing_static_range": ("Halted",),
    "changing_memory_limits": ("Halted",),
    "changing_shadow_memory": ("Halted",),
    "changing_shadow_memory_live": ("Running",),
    "changing_VCPUs": ("Halted",),
    "changing_VCPUs_live": ("Running",),
    "changing_NVRAM": ("Halted",),
    "make_into_template": ("Halted",),
    "export": ("Halted", "Suspended"),
    "metadata_export": _ANY,
    "update_allowed_operations": _ANY,
    "destroy": ("Halted", "Suspended"),
    "create_vtpm": ("Halted",),
}
"""Operations with the power states they are allowed in."""

OF_SNAPSHOTS = frozenset({"revert", "clone", "copy", "export", "destroy", "hard_shutdown", "metadata_export"})
OF_TEMPLATES = frozenset(
    {"clone", "copy", "export", "metadata_export", "provision", "destroy", "migrate_send", "create_vtpm"}
)
TOGETHER = (frozenset({"clone", "copy", "export"}), frozenset({"snapshot", "checkpoint"}))
"""Sets of operations that may overlap each other."""
OVER_OTHERS = frozenset({"hard_shutdown", "hard_reboot"})
OF_CONTROL_DOMAINS = frozenset({"update_allowed_operations", "query_services"})


def refusal(database: Database, vm: str, operation: str) -> Failure | None:
    """Why ``operation`` is refused on ``vm``, or ``None``."""
    record = database.get("VM", vm)
    if operation in record["blocked_operations"]:
        return Failure("OPERATION_BLOCKED", vm, record["blocked_operations"][operation])
    states = _states(record, operation)
    if record["power_state"] not in states:
        expected = ", ".join(state.lower() for state in states)
        return Failure("VM_BAD_POWER_STATE", vm, expected, record["power_state"].lower())
    found = _busy(vm, record, operation) or _kind(vm, record, operation)
    if found is None and operation == "snapshot_with_quiesce":
        return Failure("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm, "")
    return found or _disks(database, record, operation) or _devices(vm, record, operation)


def check(database: Database, vm: str, operation: str) -> None:
    """Raise the refusal, if any."""
    failure = refusal(database, vm, operation)
    if failure is not None:
        raise failure


def _states(record: Record, operation: str) -> tuple[str, ...]:
    if operation in ("clone", "copy") and not record["is_a_snapshot"]:
        return ("Halted",)
    return POWER[operation]


def _busy(vm: str, record: Record, operation: str) -> Failure | None:
    running = record["current_operations"]
    compatible = next((group for group in TOGETHER if operation in group), frozenset())
    conflicts = {task: op for task, op in running.items() if op not in compatible}
    if not conflicts or operation in OVER_OTHERS:
        return None
    names, tasks = list(conflicts.values()), list(conflicts)
    if len(names) == 1:
        return Failure("OTHER_OPERATION_IN_PROGRESS", "VM", vm, names[0], tasks[0])
    return Failure("OTHER_OPERATION_IN_PROGRESS", "VM", vm, _braces(names), _braces(tasks))


def _braces(words: list[str]) -> str:
    return "{" + ",".join(words) + "}"


def _kind(vm: str, record: Record, operation: str) -> Failure | None:
    snapshot, template = record["is_a_snapshot"], record["is_a_template"]
    if template and not snapshot:
        default = record["is_default_template"] and operation in ("destroy", "migrate_send")
        if (operation not in OF_TEMPLATES and not operation.startswith("changing_")) or default:
            return Failure("VM_IS_TEMPLATE", vm, operation)
    if snapshot and operation not in OF_SNAPSHOTS:
        return Failure("VM_IS_SNAPSHOT", vm, operation)
    if operation == "provision" and not template:
        return Failure("ONLY_PROVISION_TEMPLATE")
    if operation == "revert" and not snapshot:
        return Failure("ONLY_REVERT_SNAPSHOT")
    if record["is_control_domain"] and operation not in OF_CONTROL_DOMAINS:
        return Failure("OPERATION_NOT_ALLOWED", "Operation is not allowed on a control domain")
    return None


def _disks(database: Database, record: Record, operation: str) -> Failure | None:
    if operation not in ("snapshot", "checkpoint", "suspend", "snapshot_with_quiesce"):
        return None
    for ref in record["VBDs"]:
        vbd = database.get("VBD", ref)
        disk = vbd["VDI"] if vbd["type"] == "Disk" and database.exists("VDI", vbd["VDI"]) else ""
        if disk and database.get("VDI", disk)["on_boot"] == "reset":
            return Failure("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
    return None


def _devices(vm: str, record: Record, operation: str) -> Failure | None:
    if record["VUSBs"] and operation in ("suspend", "checkpoint", "pool_migrate", "migrate_send"):
        return Failure("VM_HAS_VUSBS", vm)
    return None


def refresh(database: Database, vm: str) -> None:
    """Recompute ``allowed_operations``."""
    allowed = [operation for operation in POWER if _allowed(database, vm, operation)]
    database.update("VM", vm, allowed_operations=allowed)


def _allowed(database: Database, vm: str, operation: str) -> bool:
    return operation not in ("update_allowed_operations",) and refusal(database, vm, operation) is None
