"""What a pool holds, as far as a backup may change it: to be compared before and after."""

from __future__ import annotations

from typing import Any

from xobackup.simpool import SimPool
from xotest.site import wait_until

MARKS = ("xobackup:", "xo:")


def wait_until_quiet(pool: SimPool) -> None:
    """Until all whom it served have gone: only then it has written down what they did."""
    wait_until(lambda: not any(one.http.connections or one.nbd.connections for one in pool.servers))


def state_of(pool: SimPool) -> dict[str, Any]:
    """Live VMs and disks with their marks, how many snapshots and disks there are, what works, what is attached."""
    model = pool.model
    with model.lock:
        vms, vdis, vbds = model.records("VM"), model.records("VDI"), model.records("VBD")
        domains = {ref for ref, vm in vms.items() if vm["is_control_domain"]}
        live = {ref: vm for ref, vm in vms.items() if not vm["is_a_snapshot"]}
        return {
            "vms": {
                vm["uuid"]: (
                    vm["name_label"],
                    vm["power_state"],
                    dict(vm["blocked_operations"]),
                    marks_of(vm),
                    len(vm["snapshots"]),
                    len(vm["VBDs"]),
                )
                for ref, vm in live.items()
                if ref not in domains
            },
            "disks": {
                vdi["uuid"]: marks_of(vdi) for vdi in vdis.values() if not vdi["is_a_snapshot"] and vdi["managed"]
            },
            "snapshot disks": sum(vdi["is_a_snapshot"] for vdi in vdis.values()),
            "snapshots": sum(vm["is_a_snapshot"] for vm in vms.values()),
            "on control domains": sum(vbd["VM"] in domains for vbd in vbds.values()),
            "tasks": [task["name_label"] for task in model.records("task").values() if _is_ours(task)],
        }


def _is_ours(task: dict[str, Any]) -> bool:
    """Of a run of ours and not ended; what has ended the pool forgets by itself."""
    return bool(task["name_label"].startswith("xobackup")) and task["status"] in ("pending", "cancelling")


def marks_of(record: dict[str, Any]) -> dict[str, str]:
    """Keys of backups."""
    return {key: value for key, value in record["other_config"].items() if key.startswith(MARKS)}
