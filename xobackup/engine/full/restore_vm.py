"""A full backup as a new VM: its archive goes to the pool as it is, and the VM is made ours while it arrives.

The last bytes are held back until all the others agree with the checksum: an archive that is not what was written
never becomes a VM, XAPI takes back what it has made when the stream breaks off. The VM is marked as soon as XAPI has
made it, so that what a crash leaves is found at the next start; an error removes it at once. What an import cannot be
told (name, networks, MAC addresses, tags) is set before the VM may be started.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.engine import keys
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import IntegrityError, UsageError
from xobackup.engine.leftovers.claim import Claim
from xobackup.engine.restore.records import IMPORTING, START_OPERATIONS, clean_config
from xobackup.repository.images.reading import ImageReader
from xobackup.xapi.archives import VmImport, open_vm_import
from xobackup.xapi.errors import NotFound, TransferCancelled
from xobackup.xapi.other_config import set_keys
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xobackup.engine.progress import Meter
    from xobackup.engine.restore.plan import RestorePlan, VmRequest
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

PIECE_BYTES = 2 << 20
HELD_BACK_BYTES = 64 << 10
"""At the least: more than the end of any archive, so that without them it is none."""
MARK_EVERY_S = 1.0
MADE_S = 30.0
"""How long XAPI gets to make the VM once all but the end of the archive is sent."""


class ArchiveRestore:
    """One restore on its way; make one per attempt, :meth:`receive`, then :meth:`configure`."""

    def __init__(
        self,
        world: World,
        session: Session,
        repository: Repository,
        plan: RestorePlan,
        *,
        run_id: str,
        claim: Claim,
        cancel: CancelToken,
        check: bool,
    ) -> None:
        self._world = world
        self._session = session
        self._repository = repository
        self._plan = plan
        self._run_id = run_id
        self._claim = claim
        self._cancel = cancel
        self._check = check
        self._marked = ""
        self._looked_s = world.clock.monotonic_s()
        self.vm_ref = ""
        self.vdis: dict[str, str] = {}
        """Device number -> new VDI; ``""`` for the memory of a suspended VM."""
        self.size_bytes = 0
        self.checked: bool | None = None
        """Whether the archive was compared with its checksum; ``None`` when it has none."""

    def receive(self) -> None:
        """Import the archive. Returns when the pool's task has succeeded and the VM is marked."""
        meter = self._world.progress.meter(self._plan.name, stage="restore")
        reader = ImageReader(self._repository.remote, self._plan.point, check=self._check)
        meter.begin("restore", total_bytes=reader.size_bytes)
        sr_ref = self._plan.disks[0].sr_ref if self._plan.disks else ""
        try:
            with (
                open_vm_import(
                    self._session,
                    length_bytes=reader.size_bytes,
                    sr_ref=sr_ref,
                    task_label=keys.task_label(self._run_id, f"import of {self._plan.name}"),
                    should_stop=lambda: self._cancel.cancelled,
                ) as target,
                self._cancel.waking(target.cancel),
            ):
                self._send(reader, target, meter)
                refs = target.finish()
        except TransferCancelled:
            self._cancel.check()
            raise
        finally:
            reader.close()
            self._world.progress.drop(meter)
        if len(refs) != 1:
            told = f"the archive holds {len(refs)} VMs, expected one"
            self._mark(refs)
            raise UsageError(told)
        self._mark(refs)
        self.size_bytes = reader.size_bytes

    def _send(self, reader: ImageReader, target: VmImport, meter: Meter) -> None:
        for piece, is_last in pieces_of(reader):
            self._cancel.check()
            if is_last:
                self._confirm(reader)
                begin = max(0, len(piece) - HELD_BACK_BYTES)
                target.write(piece[:begin])
                self._mark_made(target)
                target.write(piece[begin:])
            else:
                target.write(piece)
            meter.add(len(piece))
            waited = self._world.throttle.take(len(piece), self._cancel)
            if waited:
                meter.busy("throttle", waited)
            self._mark_early(target)

    def _confirm(self, reader: ImageReader) -> None:
        """All of it has been read, all but its end is sent."""
        self.checked = reader.agrees
        if self.checked is False:
            message = f"the image of {self._plan.point.id} is not what was written: its checksum differs"
            raise IntegrityError(message, hint="run verify; restore another point, or this one without checking")

    def _mark_early(self, target: VmImport) -> None:
        now = self._world.clock.monotonic_s()
        if not self._marked and now - self._looked_s >= MARK_EVERY_S:
            self._looked_s = now
            self._mark(target.made())

    def _mark_made(self, target: VmImport) -> None:
        """Before the end goes out, and with it all that would make XAPI take the VM back."""
        deadline = self._world.clock.monotonic_s() + MADE_S
        while not self._marked and self._world.clock.monotonic_s() < deadline:
            self._mark(target.made())
            if not self._marked:
                self._cancel.sleep(self._world.clock, MARK_EVERY_S / 10)

    def _mark(self, refs: list[str]) -> None:
        """Say whose they are, and that they are not finished."""
        for ref in refs:
            if ref == self._marked:
                continue
            with contextlib.suppress(NotFound):
                self._mark_one(ref)
                self.vm_ref = self._marked = ref

    def _mark_one(self, ref: str) -> None:
        session = self._session
        self._claim.hold(ref)
        unfinished = dict.fromkeys(START_OPERATIONS, IMPORTING)
        set_keys(session, "VM", ref, unfinished, field="blocked_operations")
        session.call("VM.set_name_label", ref, f"[Importing…] {self._plan.name}")
        for vbd_ref in session.call("VM.get_VBDs", ref):
            vbd = session.record("VBD", vbd_ref)
            if vbd.get("type") == "Disk" and not is_null(vbd.get("VDI")):
                set_keys(session, "VDI", vbd["VDI"], {keys.RUN: self._run_id})
                self.vdis[str(vbd.get("userdevice", ""))] = vbd["VDI"]
        memory = session.call("VM.get_suspend_VDI", ref)
        if not is_null(memory):
            set_keys(session, "VDI", memory, {keys.RUN: self._run_id})
            self.vdis[""] = memory
        set_keys(session, "VM", ref, {keys.RUN: self._run_id})  # last: it says that all the others are there

    def configure(self) -> dict[str, str]:
        """All that an import cannot be told; returns the new VDIs (references) by the old ones' uuids."""
        session, ref, wanted = self._session, self.vm_ref, self._plan.vm
        self._cancel.check()
        if session.call("VM.get_is_a_template", ref):
            session.call("VM.set_is_a_template", ref, False)
        session.call("VM.set_name_description", ref, wanted["name_description"])
        session.call("VM.set_tags", ref, wanted["tags"])
        config = clean_config(session.call("VM.get_other_config", ref))
        if "mac_seed" not in wanted["other_config"]:
            config.pop("mac_seed", None)
        made_for = {key: wanted["other_config"][key] for key in (keys.HEALTH_CHECK,) if key in wanted["other_config"]}
        marks = {**made_for, keys.RUN: self._run_id}
        session.call("VM.set_other_config", ref, {**config, **self._claim.now(), **marks})
        for vif in session.call("VM.get_VIFs", ref):
            session.call("VIF.destroy", vif)
        for nic in self._plan.nics:
            session.call("VIF.create", {**nic.vif, "VM": ref})
        for vdi in self.vdis.values():
            config = clean_config(session.call("VDI.get_other_config", vdi))
            session.call("VDI.set_other_config", vdi, {**config, **marks})
        return {
            disk.disk.live_vdi_uuid: self.vdis[disk.disk.userdevice or ""]
            for disk in self._plan.disks
            if (disk.disk.userdevice or "") in self.vdis
        }


def one_repository(plan: RestorePlan, request: VmRequest) -> RestorePlan:
    """A plan for an archive: everything goes into one SR, and all of it comes."""
    if None in request.disk_srs.values():
        raise UsageError("a full backup is imported whole: no disk of it can be left out", hint="see `restore disk`")
    srs: Mapping[str, str] = {disk.sr_ref: disk.sr_name for disk in plan.disks}
    if len(srs) > 1:
        told = f"a full backup is imported into one SR, not into {', '.join(sorted(srs.values()))}"
        raise UsageError(told, hint="name one with --sr; disks can be moved when the VM is there")
    return replace(plan, vtpms=())  # they come with the archive


def pieces_of(reader: ImageReader) -> Iterator[tuple[memoryview, bool]]:
    """The image in pieces, each read while the one before goes out; the last one, said to be so, comes when all is
    read and has at least ``HELD_BACK_BYTES`` (or is the whole image)."""
    buffers = [memoryview(bytearray(PIECE_BYTES)) for _ in range(3)]
    lengths = _lengths(reader.size_bytes)

    def read(number: int) -> memoryview:
        view = buffers[number % 3][: lengths[number]]
        reader.readinto(view)
        return view

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="image") as thread:
        ahead = thread.submit(read, 0)
        for number in range(len(lengths)):
            piece = ahead.result()
            is_last = number == len(lengths) - 1
            if not is_last:
                ahead = thread.submit(read, number + 1)
            yield piece, is_last


def _lengths(size: int) -> list[int]:
    whole, rest = divmod(size, PIECE_BYTES)
    lengths = [PIECE_BYTES] * whole + ([rest] if rest else [])
    if len(lengths) > 1 and lengths[-1] < HELD_BACK_BYTES:
        moved = HELD_BACK_BYTES - lengths[-1]
        lengths[-2] -= moved
        lengths[-1] += moved
    return lengths
