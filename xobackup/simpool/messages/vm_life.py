"""VM messages that start and stop VMs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from xobackup.simpool import attach, disks, guest, vm_rules
from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message
from xobackup.simpool.toolstack import is_null
from xobackup.simpool.values import NULL

if TYPE_CHECKING:
    from xobackup.simpool.toolstack import Toolstack

SHUTDOWN = "simulated-shutdown"
"""The key in a VM's other_config that says how its guest takes a clean shutdown: seconds, or :data:`REFUSES`."""
REFUSES = "refuses"
STEP_S = 0.02


@message("VM.start")
def start(call: Call, vm: str, start_paused: bool = False, force: bool = False) -> None:
    del force
    vm_rules.check(call.database, vm, "start")
    start_vm(call.toolstack, vm, host=host_for(call, vm), paused=start_paused)


@message("VM.start_on")
def start_on(call: Call, vm: str, host: str, start_paused: bool = False, force: bool = False) -> None:
    del force
    vm_rules.check(call.database, vm, "start_on")
    require_memory(call, vm, host)
    start_vm(call.toolstack, vm, host=host, paused=start_paused)


def require_memory(call: Call, vm: str, host: str) -> None:
    """Raise ``HOST_NOT_ENOUGH_FREE_MEMORY`` (needed, available) unless the VM fits."""
    needed, free = int(call.database.get("VM", vm)["memory_static_max"]), free_memory(call, host)
    if free < needed:
        raise Failure("HOST_NOT_ENOUGH_FREE_MEMORY", needed, free)


def free_memory(call: Call, host: str) -> int:
    """Bytes that no VM of the host, its control domain among them, has been given."""
    database = call.database
    record = database.get("host", host)
    used = sum(int(database.get("VM", vm)["memory_static_max"]) for vm in record["resident_VMs"])
    return int(database.get("host_metrics", record["metrics"])["memory_total"]) - used


def host_for(call: Call, vm: str) -> str:
    """The first enabled host that sees all of the VM's repositories and has room for its memory."""
    database = call.database
    repositories = set()
    for vbd in database.get("VM", vm)["VBDs"]:
        disk = database.get("VBD", vbd)["VDI"]
        if not is_null(disk):
            repositories.add(database.get("VDI", disk)["SR"])
    usable = [
        host
        for host, record in database.where("host", enabled=True)
        if call.toolstack.is_live(host) and all(host in call.toolstack.hosts_of_sr(sr) for sr in repositories)
    ]
    needed = int(database.get("VM", vm)["memory_static_max"])
    for host in usable:
        if free_memory(call, host) >= needed:
            return host
    if len(usable) == 1:
        require_memory(call, vm, usable[0])
    for sr in sorted(repositories):
        if not call.toolstack.hosts_of_sr(sr):
            raise Failure("VM_REQUIRES_SR", vm, sr)
    raise Failure("NO_HOSTS_AVAILABLE")


def start_vm(toolstack: Toolstack, vm: str, *, host: str, paused: bool = False) -> None:
    """Halted to Running (or Paused): devices plugged, a domain on the host, guest tools reporting."""
    database = toolstack.database
    record = database.get("VM", vm)
    domid = 1 + max((one["domid"] for _, one in database.where("VM")), default=0)
    database.update("VM", vm, power_state="Running", resident_on=host, domid=domid)
    plugged: list[str] = []
    try:
        for vbd in list(record["VBDs"]):
            attach.plug(toolstack, vbd)
            plugged.append(vbd)
    except Failure:
        for vbd in plugged:
            attach.unplug(toolstack, vbd)
        database.update("VM", vm, power_state="Halted", resident_on=NULL, domid=-1)
        raise
    for vif in list(record["VIFs"]):
        database.update("VIF", vif, currently_attached=True)
    now = toolstack.now_text()
    if database.exists("VM_metrics", record["metrics"]):
        database.update("VM_metrics", record["metrics"], start_time=now, last_updated=now)
    guest.boot(toolstack, vm)
    if paused:
        database.update("VM", vm, power_state="Paused")
    vm_rules.refresh(database, vm)


def stop_vm(toolstack: Toolstack, vm: str) -> None:
    """To Halted: devices unplugged, no domain, no guest metrics."""
    database = toolstack.database
    record = database.get("VM", vm)
    for vbd in list(record["VBDs"]):
        if database.get("VBD", vbd)["currently_attached"]:
            attach.unplug(toolstack, vbd)
    for vif in list(record["VIFs"]):
        database.update("VIF", vif, currently_attached=False)
    if database.exists("VM_guest_metrics", record["guest_metrics"]):
        database.destroy("VM_guest_metrics", record["guest_metrics"])
    image = record["suspend_VDI"]
    database.update("VM", vm, power_state="Halted", resident_on=NULL, domid=-1, suspend_VDI=NULL)
    if not is_null(image) and database.exists("VDI", image):
        disks.destroy_disk(toolstack, image)
    for vbd in record["VBDs"]:
        attach.refresh_vbd(database, vbd)
    vm_rules.refresh(database, vm)


@message("VM.hard_shutdown")
def hard_shutdown(call: Call, vm: str) -> None:
    vm_rules.check(call.database, vm, "hard_shutdown")
    stop_vm(call.toolstack, vm)


@message("VM.clean_shutdown", locked=False)
def clean_shutdown(call: Call, vm: str) -> None:
    """The guest is asked, and takes its time: whoever gives up waiting does not stop it from going down."""
    database = call.database
    with database.lock:
        vm_rules.check(database, vm, "clean_shutdown")
        if is_null(database.get("VM", vm)["guest_metrics"]):
            raise Failure("VM_LACKS_FEATURE", vm)
        manner = database.get("VM", vm)["other_config"].get(SHUTDOWN, "")
        if manner == REFUSES:
            raise Failure("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", vm)
        task = call.task or f"OpaqueRef:{database.new_uuid()}"
        database.set_key("VM", vm, "current_operations", task, "clean_shutdown")
    try:
        left_s = _guest_goes_down(call, float(manner or 0))
    finally:
        with database.lock:
            if database.exists("VM", vm):
                database.set_key("VM", vm, "current_operations", task, None)
    if left_s:
        threading.Thread(target=_down_later, args=(call, vm, left_s), name="guest", daemon=True).start()
        raise Failure("TASK_CANCELLED", call.task)
    _down(call, vm)


def _guest_goes_down(call: Call, seconds: float) -> float:
    """Wait for the guest; returns what is left when the task is cancelled before."""
    while seconds > 0 and not call.toolstack.closing.wait(min(STEP_S, seconds)):
        seconds -= min(STEP_S, seconds)
        if call.task and call.toolstack.tasks.cancelling(call.task):
            return max(seconds, STEP_S)
    return 0.0


def _down_later(call: Call, vm: str, seconds: float) -> None:
    if not call.toolstack.closing.wait(seconds):
        _down(call, vm)


def _down(call: Call, vm: str) -> None:
    with call.database.lock:
        if call.database.exists("VM", vm) and call.database.get("VM", vm)["power_state"] == "Running":
            stop_vm(call.toolstack, vm)


@message("VM.shutdown")
def shutdown(call: Call, vm: str) -> None:
    vm_rules.check(call.database, vm, "shutdown")
    stop_vm(call.toolstack, vm)


@message("VM.hard_reboot")
def hard_reboot(call: Call, vm: str) -> None:
    vm_rules.check(call.database, vm, "hard_reboot")
    host = call.database.get("VM", vm)["resident_on"]
    stop_vm(call.toolstack, vm)
    start_vm(call.toolstack, vm, host=host)


@message("VM.clean_reboot")
def clean_reboot(call: Call, vm: str) -> None:
    vm_rules.check(call.database, vm, "clean_reboot")
    if is_null(call.database.get("VM", vm)["guest_metrics"]):
        raise Failure("VM_LACKS_FEATURE", vm)
    host = call.database.get("VM", vm)["resident_on"]
    stop_vm(call.toolstack, vm)
    start_vm(call.toolstack, vm, host=host)


@message("VM.power_state_reset")
def power_state_reset(call: Call, vm: str) -> None:
    """The record says Halted from now on, whatever is true."""
    vm_rules.check(call.database, vm, "power_state_reset")
    if call.database.get("VM", vm)["power_state"] != "Halted":
        stop_vm(call.toolstack, vm)


@message("VM.pause")
def pause(call: Call, vm: str) -> None:
    vm_rules.check(call.database, vm, "pause")
    call.database.update("VM", vm, power_state="Paused")
    vm_rules.refresh(call.database, vm)


@message("VM.unpause")
def unpause(call: Call, vm: str) -> None:
    vm_rules.check(call.database, vm, "unpause")
    call.database.update("VM", vm, power_state="Running")
    vm_rules.refresh(call.database, vm)
