"""How replicas and their restore points are named and marked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.restore.records import clean_config
from xobackup.xapi.values import format_time

if TYPE_CHECKING:
    from xobackup.engine.job import Job, SrTarget

TAG = "Continuous Replication"
"""Xen Orchestra's."""
WHOLE_TAG = "Disaster Recovery"
"""The same, of full replication."""
HA_TAG = "HA disabled"
"""Xen Orchestra's, on a replica whose VM is protected by high availability."""
BLOCKED = ("start", "start_on")
REPLICA_TEXT = "xobackup: this is a replica; clone it, or a restore point of it, to use it"
"""Why a replica cannot be started."""
UNFINISHED_TEXT = "xobackup: a replication into this VM is not finished"
"""Why it cannot while it is written to, in the words by which an interrupted one is recognised."""
_MOMENT = re.compile(r"(\d{8})T(\d{2}):?(\d{2}):?(\d{2})Z")


def vm_name(job: Job, target: SrTarget, vm: str) -> str:
    """What a replica is called."""
    return target.vm_name.format(job=job.name, vm=vm)


def point_name(job: Job, vm: str, moment: datetime) -> str:
    """What a restore point is called, as Xen Orchestra does it."""
    return f"{vm} - {job.name} {moment:%Y%m%dT%H%M%SZ}"


def whole_name(job: Job, vm: str, moment: datetime) -> str:
    """What a restore point of full replication is called, as Xen Orchestra names it."""
    return f"{vm} - {job.name} - ({moment:%Y%m%dT%H%M%SZ})"


def point_id(datetime_key: str) -> str:
    """The name of a restore point in reports and commands, like those on remotes; ``""`` when it has no time."""
    found = _MOMENT.fullmatch(datetime_key)
    return f"{found[1]}T{found[2]}{found[3]}{found[4]}Z" if found else ""


def timestamp_ms(datetime_key: str) -> int:
    """Unix time of a restore point; 0 when it has none."""
    name = point_id(datetime_key)
    if not name:
        return 0
    try:
        return int(datetime.strptime(name, "%Y%m%dT%H%M%S%z").timestamp()) * 1000
    except ValueError:
        return 0


def replica_of(job_id: str, vm_uuid: str) -> str:
    """The value of :data:`keys.REPLICA`."""
    return f"{job_id} {vm_uuid}"


def vm_marks(job: Job, vm_uuid: str, *, sr_uuid: str, snapshot_uuid: str, moment: datetime) -> dict[str, str]:
    """On a replica right before its snapshot, which takes them over; ``snapshot_uuid``: of the VM's snapshot."""
    return {
        keys.DATETIME: format_time(moment),
        keys.JOB: job.id,
        keys.SCHEDULE: job.schedule_id,
        keys.VM: vm_uuid,
        keys.SR: sr_uuid,
        keys.COPY_OF: snapshot_uuid,
        keys.QCOW2_FIX: "true",
        keys.REPLICA: replica_of(job.id, vm_uuid),
    }


def disk_marks(marks: Mapping[str, str], *, content_key: str, live_uuid: str) -> dict[str, str]:
    """The same on one of its disks."""
    of_vm = {key: text for key, text in marks.items() if key != keys.REPLICA}
    return {**of_vm, keys.COPY_OF: content_key, keys.CONTENT_KEY: content_key, keys.LIVE: live_uuid}


def at_rest(config: Mapping[str, Any], *, sr_uuid: str, replica: str = "", live_uuid: str = "") -> dict[str, str]:
    """``other_config`` of a replica, or one of its disks, that nobody works on."""
    ours = {keys.SR: sr_uuid, keys.REPLICA: replica, keys.LIVE: live_uuid}
    return {**clean_config(config), **{key: text for key, text in ours.items() if text}}
