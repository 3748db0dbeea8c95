"""A lab with a second pool, to which its VM is replicated: every restore point there is compared byte by byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xobackup.engine import keys
from xobackup.engine.job import PoolTarget, SrTarget
from xobackup.engine.replication.points import CLASSES, ReplicaPoint, find_points
from xobackup.engine.report import RunReport
from xobackup.simpool import PoolSpec, SimPool, SrSpec
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.tls import Ca
from xotest.lab import TIMEOUTS, Lab

TARGET_POOL = PoolSpec(name="other site", vms=(), srs=(SrSpec(name="dr ssd"), SrSpec(name="dr hdd")))


@dataclass(slots=True)
class TwoPools:
    """``expected``: by id of the restore point, then live VDI uuid -> sha256."""

    lab: Lab
    other: SimPool
    sr: str = "dr ssd"
    target: dict[str, Any] = field(default_factory=dict)
    """More of the target."""
    expected: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def address(self) -> PoolAddress:
        return PoolAddress(
            url=self.other.url,
            username=self.other.username,
            password=self.other.password,
            tls=Ca(path=self.other.ca_pem_path),
            timeouts=TIMEOUTS,
        )

    def sr_target(self, name: str = "dr1", **fields: Any) -> SrTarget:
        pool = PoolTarget(name="other", address=self.address)
        return SrTarget(**{"name": name, "pool": pool, "srs": (self.sr,), **self.target, **fields})

    def run(self, *, expect: str | None = "ok", gc: bool = True, **fields: Any) -> RunReport:
        """One run; remembers what its restore points must give back."""
        if gc:
            self.other.gc()
        images = {uuid: self.lab.pool.disk_sha256(ref) for uuid, ref in self.lab.disks().items()}
        known = {point.uuid for point in self.points()}
        report = self.lab.run(expect=expect, **{"targets": (self.sr_target(),), "remotes": (), **fields})
        for point in self.points():
            if point.uuid not in known:
                self.expected[point.uuid] = images
        return report

    def records(self) -> dict[str, dict[str, Any]]:
        return {cls: self.other.model.records(cls) for cls in CLASSES}

    def points(self) -> list[ReplicaPoint]:
        """Newest first."""
        return find_points(self.records(), vm_uuid=self.lab.vm_uuid)

    def replicas(self) -> dict[str, dict[str, Any]]:
        """VMs of the other pool that are replicas, by reference."""
        vms = self.other.model.records("VM")
        return {
            ref: vm
            for ref, vm in vms.items()
            if not vm["is_a_snapshot"] and not vm["is_control_domain"] and keys.REPLICA in vm["other_config"]
        }

    def check(self) -> None:
        """Every restore point reads back as its VM was."""
        for point in self.points():
            images = self.expected[point.uuid]
            assert {disk.live_uuid for disk in point.disks} == set(images), (point, images)
            for disk in point.disks:
                found = self.other.disk_sha256(disk.ref)
                assert found == images[disk.live_uuid], f"{point.id} {disk.userdevice} differs"

    def assert_tidy(self) -> None:
        """Replicas are at rest, and nothing else is left in either pool."""
        self.lab.assert_tidy()
        vms, vdis = self.other.model.records("VM"), self.other.model.records("VDI")
        for vm in self.replicas().values():
            assert {"start", "start_on"} <= set(vm["blocked_operations"]), vm["name_label"]
            assert keys.RUN not in vm["other_config"]
            assert not any(key.startswith(keys.CLAIM) for key in vm["other_config"])
            assert not vm["name_label"].startswith("[Importing")
        for vdi in vdis.values():
            if vdi["managed"] and not vdi["is_a_snapshot"]:
                assert vdi["VBDs"], f"{vdi['name_label']} belongs to nobody"
                assert keys.RUN not in vdi["other_config"]
        points = {point.ref for point in self.points()}
        assert {ref for ref, vm in vms.items() if vm["is_a_snapshot"]} == points
