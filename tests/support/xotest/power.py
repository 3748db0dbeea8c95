"""What tests about VMs that are shut down ask of a lab."""

from __future__ import annotations

from xobackup.engine import keys
from xotest.lab import Lab


def state_of(lab: Lab) -> str:
    """The guest's power state."""
    return str(lab.pool.model.get("VM", lab.vm)["power_state"])


def lifecycle(lab: Lab) -> list[str]:
    """What was done to the guest, in order."""
    told = {"clean_shutdown", "hard_shutdown", "snapshot", "checkpoint", "start"}
    done = [entry.method.removeprefix("Async.") for entry in lab.pool.journal.entries("Async.VM.*")]
    return [method.removeprefix("VM.") for method in done if method.removeprefix("VM.") in told]


def owes_nothing(lab: Lab) -> bool:
    """The guest runs and carries no mark; its snapshots carry none either."""
    records = [lab.pool.model.get("VM", lab.vm), *lab.snapshots()]
    return state_of(lab) == "Running" and not any(keys.SHUTDOWN in one["other_config"] for one in records)
