"""What the pool's records say about a guest: is it up, what did its script say, where is it? Pure.

Xen Orchestra's protocol for a script in the guest: the VM starts with ``vm-data/xo-backup-health-check`` =
``planned`` in its xenstore; the script writes ``running``, at last ``success`` or
``failure``, and why to ``...-error``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xobackup.engine.health.request import CheckFailed

Record = Mapping[str, Any]
STATUS = "vm-data/xo-backup-health-check"
ERROR = "vm-data/xo-backup-health-check-error"
PLANNED = "planned"
SCRIPT_TAG = "xo-backup-health-check-xenstore"
OPT_OUT_TAG = "xo:no-health-check"
STOPPED = ("Halted", "Suspended")


def opted_out(tags: object) -> bool:
    """Whether a VM with these tags is left out (``xo:no-health-check``, with a reason or without)."""
    found = tags if isinstance(tags, list) else []
    return any(tag == OPT_OUT_TAG or str(tag).startswith(f"{OPT_OUT_TAG}=") for tag in found)


def wants_script(tags: object) -> bool:
    return SCRIPT_TAG in (tags if isinstance(tags, list) else [])


def is_running(vm: Record) -> bool:
    """Raises :class:`CheckFailed` when the VM has stopped by itself."""
    state = vm.get("power_state")
    if state in STOPPED:
        raise CheckFailed(f"the VM stopped by itself: expected Running, found {state}")
    return state == "Running"


def tools_are_up(metrics: Record | None) -> bool:
    """``PV_drivers_detected``; hosts older than that field say the drivers' version."""
    if metrics is None:
        return False
    if "PV_drivers_detected" in metrics:
        return bool(metrics["PV_drivers_detected"])
    return bool(metrics.get("PV_drivers_version"))


def script_succeeded(vm: Record) -> bool:
    """Whether the script has ended well; raises :class:`CheckFailed` when it has ended badly."""
    data = vm.get("xenstore_data")
    found = data if isinstance(data, dict) else {}
    status = found.get(STATUS, "")
    if status == "failure":
        raise CheckFailed(f"the script in the guest failed: {found.get(ERROR) or 'it did not say why'}")
    return bool(status == "success")


def address_of(metrics: Record | None) -> str | None:
    """The guest's first address, IPv4 before IPv6."""
    networks = (metrics or {}).get("networks")
    found = networks if isinstance(networks, dict) else {}
    ordered = sorted(found, key=lambda key: ("ipv6" in key, key))
    return next((str(found[key]) for key in ordered if found[key]), None)
