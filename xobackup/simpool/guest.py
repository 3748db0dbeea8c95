"""What a simulated guest does after its VM was started: its tools report, a script writes to xenstore, or it stops.

``simulated-guest`` in the VM's other_config, words by spaces, says how; without it the tools report at once:

* ``tools=SECONDS`` or ``tools=never``;
* ``script=ok``, ``script=silent`` (begins, never ends) or ``script=fails`` with ``script-error=WORD``: a
  script in the guest for Xen Orchestra's health checks; a guest without it leaves xenstore alone;
* ``stops=SECONDS``: it powers itself off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from xobackup.simpool import vm_rules

if TYPE_CHECKING:
    from xobackup.simpool.toolstack import Toolstack

GUEST = "simulated-guest"
NEVER = "never"
HEALTH = "vm-data/xo-backup-health-check"


def boot(toolstack: Toolstack, vm: str) -> None:
    """Begin what the guest does from now on. What it owes later ends with this domain."""
    words = toolstack.database.get("VM", vm)["other_config"].get(GUEST, "").split()
    manner = {key: value for key, _, value in (word.partition("=") for word in words)}
    tools = manner.get("tools", "0")
    if "stops" in manner:
        _later(toolstack, vm, float(manner["stops"]), lambda: _power_off(toolstack, vm))
    if tools == NEVER:
        return
    _later(toolstack, vm, float(tools), lambda: _report(toolstack, vm, manner))


def _later(toolstack: Toolstack, vm: str, seconds: float, act: Callable[[], None]) -> None:
    database = toolstack.database
    if seconds <= 0:
        act()
        return
    domid = database.get("VM", vm)["domid"]

    def wait() -> None:
        if toolstack.closing.wait(seconds):
            return
        with database.lock:
            if database.exists("VM", vm) and database.get("VM", vm)["domid"] == domid:
                act()

    threading.Thread(target=wait, name="guest", daemon=True).start()


def _report(toolstack: Toolstack, vm: str, manner: dict[str, str]) -> None:
    database = toolstack.database
    database.update("VM", vm, guest_metrics=_guest_metrics(toolstack, vm))
    vm_rules.refresh(database, vm)
    data = database.get("VM", vm)["xenstore_data"]
    if data.get(HEALTH) != "planned" or "script" not in manner:
        return
    said = {"ok": "success", "fails": "failure"}.get(manner["script"], "running")
    told = {f"{HEALTH}-error": manner["script-error"]} if "script-error" in manner and said == "failure" else {}
    database.update("VM", vm, xenstore_data={**data, **told, HEALTH: said})


def _power_off(toolstack: Toolstack, vm: str) -> None:
    from xobackup.simpool.messages.vm_life import stop_vm

    stop_vm(toolstack, vm)


def _guest_metrics(toolstack: Toolstack, vm: str) -> str:
    record = toolstack.database.get("VM", vm)
    networks: dict[str, str] = {}
    for vif in record["VIFs"]:
        device = toolstack.database.get("VIF", vif)["device"]
        address = f"192.0.2.{10 + record['domid'] % 200}"
        networks |= {f"{device}/ip": address, f"{device}/ipv4/0": address}
    return toolstack.database.create(
        "VM_guest_metrics",
        {
            "os_version": {"name": "Simulated GNU/Linux 12", "distro": "debian", "uname": "6.1.0", "major": "12"},
            "PV_drivers_version": {"major": "7", "minor": "30", "micro": "0", "build": "1"},
            "PV_drivers_up_to_date": True,
            "PV_drivers_detected": True,
            "live": True,
            "networks": networks,
            "other": {"feature-shutdown": "1", "feature-suspend": "1"},
            "can_use_hotplug_vbd": "yes",
            "can_use_hotplug_vif": "yes",
            "last_updated": toolstack.now_text(),
        },
    )
