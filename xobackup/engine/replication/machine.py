"""The replica of one VM while a run writes to it.

Claimed and marked before the first change, its start blocked throughout; given what its VM has by now right before
the restore point is taken. Everything until the restore point counts can be taken back
(:mod:`xobackup.engine.replication.settle`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.errors import UsageError
from xobackup.engine.removal import destroy_vdi
from xobackup.engine.replication.base import Onto, Way
from xobackup.engine.replication.marks import BLOCKED, UNFINISHED_TEXT, vm_name
from xobackup.engine.replication.points import ReplicaPoint
from xobackup.engine.replication.records import changes, nics, same_nic, tags_of
from xobackup.engine.replication.seed import Seed
from xobackup.engine.replication.settle import block, ordinary
from xobackup.engine.restore.records import (
    BIOS_STRINGS,
    CD_DEVICE,
    Record,
    cd_record,
    clean_config,
    vbd_record,
    vm_record,
)
from xobackup.engine.taking.taken import vdis_of
from xobackup.xapi.cbt import enable
from xobackup.xapi.errors import XapiError, XapiFailure
from xobackup.xapi.image_format import KEY, VHD_MAX_BYTES, ImageFormat, image_format_of
from xobackup.xapi.other_config import set_key
from xobackup.xapi.records import VdiRecord
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.engine.job import Job
    from xobackup.engine.leftovers.claim import Claim
    from xobackup.engine.replication.site import ReplicaSite, Storage
    from xobackup.xapi.session import Session


@dataclass(slots=True)
class Machine:
    """``source``: the VM's record; ``base``: the restore point that deltas continue."""

    session: Session
    site: ReplicaSite
    sr: Storage
    job: Job
    run_id: str
    source: Record
    way: Way
    base: ReplicaPoint | None
    claim: Claim
    warn: Callable[[str], None]
    ref: str = ""
    begun: bool = False
    made: list[str] = field(default_factory=list)
    """New disks (references)."""
    clones: dict[str, str] = field(default_factory=dict)
    """Disks of a clone of the restore point, by content key."""

    def begin(self) -> None:
        """Claim it, or create it."""
        if self.way.onto is Onto.SAME:
            assert self.base is not None
            self.ref = self.base.replica_ref
            self.claim.hold(self.ref)
            set_key(self.session, "VM", self.ref, keys.RUN, self.run_id)
            block(self.session, self.ref, UNFINISHED_TEXT)
        elif self.way.onto is Onto.CLONE:
            self._clone()
        else:
            self._create()
        self.begun = True

    def _create(self) -> None:
        session = self.session
        record = vm_record(
            self.source,
            name=self.name,
            description="",
            tags=tuple(tags_of(self.source)),
            new_macs=self.site.target.new_macs,
            run_id=self.run_id,
        )
        self.ref = str(
            session.call(
                "VM.create",
                {
                    **record,
                    "name_label": f"[Importing…] {self.name}",
                    "ha_restart_priority": "",
                    "other_config": {**record["other_config"], **self.claim.now()},
                    "blocked_operations": dict.fromkeys(BLOCKED, UNFINISHED_TEXT),
                },
            )
        )
        self.claim.hold(self.ref, written=True)
        for vbd in session.call("VM.get_VBDs", self.ref):
            session.call("VBD.destroy", vbd)  # what the template it claims to come from would add

    def _clone(self) -> None:
        """A new VM from the restore point: under a name that says whose it is, until it is marked."""
        assert self.base is not None
        session, name = self.session, keys.temporary_name(self.job.id, self.run_id)
        self.ref = str(session.call_async("VM.clone", self.base.ref, name))
        config = {**clean_config(session.call("VM.get_other_config", self.ref)), keys.RUN: self.run_id}
        session.call("VM.set_other_config", self.ref, {**config, **self.claim.now()})
        self.claim.hold(self.ref, written=True)
        block(session, self.ref, UNFINISHED_TEXT)
        ordinary(session, self.ref)
        session.call("VM.set_name_label", self.ref, f"[Importing…] {self.name}")
        for vdi_ref, vdi in vdis_of(session, self.ref).items():
            self.clones[str(vdi["other_config"].get(keys.CONTENT_KEY, ""))] = vdi_ref

    @property
    def name(self) -> str:
        return vm_name(self.job, self.site.target, str(self.source.get("name_label", "")))

    def disk(self, name: str, sr: Storage, *, size_bytes: int, base_uuid: str) -> str:
        """The VDI to write to: for a delta to ``base_uuid`` the one that holds that, else a new one on ``sr``."""
        if not base_uuid:
            return self._new_disk(name, sr, size_bytes)
        of = next((disk for disk in self.base.disks if disk.content_key == base_uuid), None) if self.base else None
        if of is None:
            raise UsageError(
                f"the restore point that the delta to {base_uuid} continues has gone since it was planned"
            )
        ref = of.active_ref if self.way.onto is Onto.SAME else self.clones[base_uuid]
        set_key(self.session, "VDI", ref, keys.RUN, self.run_id)
        if of.virtual_size_bytes < size_bytes:
            self.session.call_async("VDI.resize", ref, size_bytes)
        return ref

    def seeded(self, name: str, seed: Seed | None, *, size_bytes: int) -> str:
        """A new disk with the content of what survives there."""
        if seed is None or seed.problem:
            told = seed.problem if seed else "the snapshot that it continues is gone"
            raise UsageError(f"disk {name}: no delta any more: {told}")
        ref = str(self.session.call_async("VDI.clone", seed.ref, {}))
        self.made.append(ref)
        try:
            self.session.call("VDI.set_other_config", ref, {keys.RUN: self.run_id})
        except BaseException:
            with contextlib.suppress(XapiError):  # without our mark nobody would know later whose it is
                destroy_vdi(self.session, ref)
            raise
        self.session.call("VDI.set_name_label", ref, f"[Importing…] {name}")
        if seed.virtual_size_bytes < size_bytes:
            self.session.call_async("VDI.resize", ref, size_bytes)
        return ref

    def track(self) -> None:
        """Right before the restore point: from it on the pool says what is written to disks of which it computes no
        deltas. Where it cannot, the next run says why it transfers them whole."""
        for ref, vdi in vdis_of(self.session, self.ref).items():
            if image_format_of(vdi) is not ImageFormat.QCOW2:
                continue
            refusal = enable(self.session, VdiRecord.parse(ref, vdi))
            if refusal is not None:
                self.warn(
                    f"changes of disk {vdi.get('name_label')} cannot be tracked there, each run will transfer it "
                    f"whole: {refusal}"
                )

    def _new_disk(self, name: str, sr: Storage, size_bytes: int) -> str:
        record = {
            "name_label": f"[Importing…] {name}",
            "name_description": "",
            "SR": sr.ref,
            "virtual_size": size_bytes,
            "type": "user",
            "sharable": False,
            "read_only": False,
            "other_config": {keys.RUN: self.run_id},
            "tags": [],
            "xenstore_data": {},
            "sm_config": {KEY: ImageFormat.QCOW2.value} if size_bytes > VHD_MAX_BYTES else {},
        }
        ref = str(self.session.call_async("VDI.create", record))
        self.made.append(ref)
        return ref

    def describe(self, draft: Mapping[str, Any], disks: Mapping[str, str]) -> None:
        """Give it what the VM has. ``draft``: as for a restore point on a remote; ``disks``: its VDIs (references),
        by the reference of the snapshot's."""
        session, vm = self.session, draft["vm"]
        for method, arguments in changes(session.record("VM", self.ref), vm):
            try:
                session.call(method, self.ref, *arguments)
            except XapiFailure as error:
                self.warn(f"the replica could not take over {method.removeprefix('VM.set_')}: {error}")
        self._attach(draft, disks)
        self._connect(draft)
        self._devices(draft)
        session.call("VM.set_name_label", self.ref, self.name)

    def _attach(self, draft: Mapping[str, Any], disks: Mapping[str, str]) -> None:
        """Exactly these disks, where they were; what it had besides goes."""
        session = self.session
        wanted: dict[str, Record] = {}
        for vbd in draft["vbds"].values():
            wanted[disks[vbd["VDI"]]] = vbd_record(vbd.get("userdevice"), vbd)
        dropped: list[str] = []
        for vbd_ref in session.call("VM.get_VBDs", self.ref):
            vbd = session.record("VBD", vbd_ref)
            if vbd.get("type") != "Disk":
                continue
            want = wanted.get(str(vbd["VDI"]))
            if want is not None and all(vbd[name] == want[name] for name in ("userdevice", "bootable", "mode")):
                del wanted[str(vbd["VDI"])]
                continue
            session.call("VBD.destroy", vbd_ref)
            if want is None and not is_null(vbd["VDI"]):
                dropped.append(str(vbd["VDI"]))
        for vdi_ref, record in wanted.items():
            session.call("VBD.create", {**record, "VM": self.ref, "VDI": vdi_ref})
        for vdi_ref in dropped:
            if not session.call("VDI.get_VBDs", vdi_ref):
                destroy_vdi(session, vdi_ref)

    def _connect(self, draft: Mapping[str, Any]) -> None:
        session = self.session
        wanted, left_out = nics(draft["vifs"], self.site.target, self.site.offer)
        for told in left_out:
            self.warn(told)
        by_device = {str(nic["device"]): nic for nic in wanted}
        for vif_ref in session.call("VM.get_VIFs", self.ref):
            vif = session.record("VIF", vif_ref)
            nic = by_device.get(str(vif.get("device")))
            if nic is not None and same_nic(vif, nic):
                del by_device[str(vif.get("device"))]
            else:
                session.call("VIF.destroy", vif_ref)
        for nic in by_device.values():
            session.call("VIF.create", {**nic, "VM": self.ref})

    def _devices(self, draft: Mapping[str, Any]) -> None:
        """Virtual TPM, BIOS strings, CD drive: what a host cannot have is left out, with a warning."""
        session = self.session
        record = session.record("VM", self.ref)
        contents = [text for text in draft.get("vtpms") or () if isinstance(text, str)]
        bios = {key: text for key, text in (draft["vm"].get("bios_strings") or {}).items() if key in BIOS_STRINGS}
        bios = {key: text for key, text in bios.items() if text}
        known = record.get("bios_strings") or {}
        try:
            if contents and not record.get("VTPMs"):
                vtpm = session.call("VTPM.create", self.ref, False)
                session.call("VTPM.set_contents", vtpm, contents[0])
            elif contents and session.call("VTPM.get_contents", record["VTPMs"][0]) != contents[0]:
                session.call("VTPM.set_contents", record["VTPMs"][0], contents[0])
            if any(known.get(key) != text for key, text in bios.items()):
                session.call("VM.set_bios_strings", self.ref, bios)
        except XapiFailure as error:
            self.warn(f"the replica could not take over the virtual TPM or the BIOS strings: {error}")
        drives = [session.call("VBD.get_type", vbd) for vbd in record.get("VBDs") or ()].count("CD")
        if not drives and _has_cd_drive(draft):
            with contextlib.suppress(XapiFailure):
                session.call("VBD.create", {**cd_record(CD_DEVICE), "VM": self.ref})


def _has_cd_drive(draft: Mapping[str, Any]) -> bool:
    """Drafts describe disks only; what else the VM's snapshot names as block devices are CD drives."""
    named = draft["vmSnapshot"].get("VBDs")
    return isinstance(named, list) and any(ref not in draft["vbds"] for ref in named)
