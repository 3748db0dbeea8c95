"""Replicas as Xen Orchestra makes them: its calls, keys and names as recorded in fixtures/xapi-calls (cr1, cr2), made
between two simulated pools by a client with its manners."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xotest import xo_steps as steps
from xotest.xoclient import XoClient

if TYPE_CHECKING:
    from xobackup.simpool import SimPool

REASON = "Start operation for this vm is blocked, clone it if you want to use it."
IMPORTING = dict.fromkeys(("start", "start_on"), "Importing…")
FIX = {"xo:backup:includeNonNbdQcow2Fix": "true"}
LATER = "19700101T000000Z"
"""Of a replica that is being written to."""


@dataclass(slots=True)
class XoReplication:
    """A job of its with one VM and one SR. ``stamp`` in its form, ``20260101T00:00:00Z``."""

    source: SimPool
    target: SimPool
    sr: str
    vm: str
    job: str
    schedule: str
    replica: str = ""
    disks: dict[str, str] = field(default_factory=dict)
    """Of the replica, by the live disk."""
    bases: dict[str, str] = field(default_factory=dict)
    """The exported snapshot of each live disk."""

    def run(self, stamp: str) -> str:
        """One run of incremental replication; returns the restore point."""
        with XoClient(self.source) as near, XoClient(self.target) as far:
            steps.begin(near, self.vm)
            uuid = near.call("VM.get_uuid", self.vm)
            of_run = {"datetime": stamp, "job": self.job, "schedule": self.schedule, "vm": uuid}
            marks = {f"xo:backup:{key}": text for key, text in of_run.items()} | FIX
            made = steps.snapshot(near, self.vm, stamp)
            near.mark(made, dict(marks))
            snapshots = dict(zip(near.disks(self.vm), near.disks(made), strict=True))
            sr_uuid = far.call("SR.get_uuid", self.sr)
            there = {"xo:copy_of": near.call("VM.get_uuid", made), "xo:backup:sr": sr_uuid}
            self._prepare(near, far, made, {**marks, **there})
            for live, snapshot in snapshots.items():
                vdi, content = self.disks[live], near.call("VDI.get_uuid", snapshot)
                steps.fill(far, vdi, steps.stream(near, snapshot, self.bases.get(live, "")))
                own = {"xo:backup:contentKey": content, "xo:copy_of": content, "xo:backup:sr": sr_uuid}
                far.set_entries("VDI", vdi, "other_config", {**marks, **own})
            far.block(self.replica, dict.fromkeys(("start", "start_on"), REASON))
            far.call("VM.set_name_label", self.replica, "[XO Backup cr] guest")
            far.set_entries("VM", self.replica, "other_config", {**marks, **there})
            moment = stamp.replace(":", "")
            far.call("VM.set_name_description", self.replica, f" -- last replication: {moment} 8 MiB read")
            point = far.call_async("VM.snapshot", self.replica, f"guest - cr / xo-run-schedule {moment}")
            far.call("VM.set_is_a_template", point, False)
            far.mark(self.replica, dict(steps.RESET))
            steps.exported(near, made, len(self.bases))
            self.bases = snapshots
            steps.end(near, self.vm)
        return str(point)

    def _prepare(self, near: XoClient, far: XoClient, made: str, marks: dict[str, str]) -> None:
        """The replica, its start blocked, with disks to write to and the marks of one that is not finished."""
        record = near.call("VM.get_record", made)
        config = {**record["other_config"], **marks, "xo:backup:datetime": LATER}
        if self.replica:
            far.call("VM.set_other_config", self.replica, config)
            far.block(self.replica, dict(IMPORTING))
            for vbd in far.call("VM.get_VBDs", self.replica):
                far.call("VBD.destroy", vbd)
        else:
            tags = [*record["tags"], "Continuous Replication"]
            self.replica = steps.create_vm(far, record, "[XO Backup cr] guest", other_config=config, tags=tags)
            sources = {live: near.call("VDI.get_record", live) for live in near.disks(self.vm)}
            self.disks = {live: steps.create_disk(far, vdi, self.sr) for live, vdi in sources.items()}
        vbds = [near.call("VBD.get_record", vbd) for vbd in record["VBDs"]]
        for vdi, vbd in zip(self.disks.values(), [vbd for vbd in vbds if vbd["type"] == "Disk"], strict=True):
            steps.attach(far, self.replica, vdi, vbd)

    def run_full(self, stamp: str) -> str:
        """One run of full replication; returns its VM."""
        with XoClient(self.source) as near, XoClient(self.target) as far:
            made = steps.snapshot(near, self.vm, stamp)
            archive = near.get("/export/", "VM export", ref=made, use_compression="false")
            result = far.put("/import/", archive, "VM import", sr_id=self.sr)
            copy = f"OpaqueRef:{result.rpartition('OpaqueRef:')[2]}"
            far.call("VM.set_ha_restart_priority", copy, "")
            far.call("VM.add_tags", copy, "Disaster Recovery")
            far.call("VM.set_name_label", copy, f"guest - cr - ({stamp.replace(':', '')})")
            far.block(copy, dict.fromkeys(("start", "start_on"), REASON))
            of_run = {"datetime": stamp, "job": self.job, "schedule": self.schedule}
            of_run |= {"vm": near.call("VM.get_uuid", self.vm), "sr": far.call("SR.get_uuid", self.sr)}
            far.set_entries("VM", copy, "other_config", {f"xo:backup:{key}": text for key, text in of_run.items()})
            near.destroy_vm(made)
        return copy
