"""Views of VMs and disks made by hand, for tests of pure decisions."""

from __future__ import annotations

import uuid
from typing import Any

from xobackup.engine.job import Job, PoolTarget, RemoteTarget
from xobackup.engine.view import DiskView, PoolSnapshot, VmView

MIB = 1024 * 1024


def uid(text: str) -> str:
    """A uuid for a short name, the same each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def a_job(**fields: Any) -> Job:
    defaults: dict[str, Any] = {
        "name": "nightly",
        "pools": (PoolTarget(name="lab", address=None),),  # type: ignore[arg-type]
        "remotes": (RemoteTarget(name="nas", url="file:///nowhere"),),
    }
    return Job(**{**defaults, **fields})


def a_vm(name: str = "web", **fields: Any) -> VmView:
    defaults: dict[str, Any] = {
        "uuid": uid(name),
        "ref": f"OpaqueRef:{name}",
        "name": name,
        "pool": "lab",
        "power_state": "Running",
    }
    return VmView(**{**defaults, **fields})


def a_disk(name: str = "root", **fields: Any) -> DiskView:
    defaults: dict[str, Any] = {
        "vdi_uuid": uid(name),
        "vdi_ref": f"OpaqueRef:vdi-{name}",
        "name": name,
        "userdevice": "0",
        "virtual_size_bytes": 16 * MIB,
        "used_bytes": 4 * MIB,
        "sr_uuid": uid("sr"),
        "sr_name": "Local storage",
    }
    return DiskView(**{**defaults, **fields})


def a_snapshot(name: str = "s1", **fields: Any) -> PoolSnapshot:
    defaults: dict[str, Any] = {
        "vdi_uuid": uid(name),
        "vdi_ref": f"OpaqueRef:{name}",
        "sr_uuid": uid("sr"),
        "virtual_size_bytes": 16 * MIB,
        "datetime": "20260101T00:00:00Z",
        "job_id": a_job().id,
        "vm_uuid": uid("web"),
        "exported": True,
        "chain_length": 0,
        "vm_snapshot_ref": f"OpaqueRef:vm-{name}",
    }
    return PoolSnapshot(**{**defaults, **fields})
