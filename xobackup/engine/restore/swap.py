"""Two VMs exchange disks, and can always be put back: how a restore in place takes effect.

What is to be exchanged is written on the VM first, as one key of its ``other_config``; then nobody can start it,
because half of its disks might be another time's. While that key is there alone, :func:`put_back` makes everything as
it was, however far it had come, as often as it is called. A second key says that the exchange is complete: from
then on nothing is ever put back, for the VM may have been started; :func:`end` only tidies up. The other VM (the
*keeper*) brings the restored disks and ends with the replaced ones: no disk is ever without a VM for longer than a
call takes, and none is deleted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.restore.records import START_OPERATIONS
from xobackup.xapi.errors import NotFound
from xobackup.xapi.other_config import set_key, set_keys

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

BLOCKED = "xobackup: its disks are being exchanged by a restore in place"
VBD_FIELDS = ("bootable", "mode", "type", "unpluggable", "other_config", "qos_algorithm_type", "qos_algorithm_params")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One device. ``old`` and ``new`` are uuids of VDIs; ``old`` is empty where the VM has no disk there."""

    device: str
    old: str
    new: str
    vbd: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the VBD as it is to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """All of it. ``blocked``: the operations that we blocked, and not somebody before us."""

    run_id: str
    vm: str
    """uuid of the VM whose disks they are: in a copy of it the note means nothing."""
    keeper: str
    """uuid of the VM that the new disks come from."""
    disks: tuple[Exchange, ...]
    kept_name: str = ""
    """What the keeper is called once it has the replaced disks."""
    blocked: tuple[str, ...] = ()

    def as_text(self) -> str:
        return json.dumps(asdict(self))


def swap_of(other_config: Mapping[str, str], vm_uuid: str) -> Swap | None:
    """The one that is noted on a VM; ``None`` without, when nobody could read it, or when it is another VM's."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        found = json.loads(other_config[keys.SWAP])
        disks = tuple(Exchange(**one) for one in found["disks"])
        if found["vm"] == vm_uuid:
            return Swap(**{**found, "disks": disks, "blocked": tuple(found["blocked"])})
    return None


def begin(session: Session, vm_ref: str, swap: Swap) -> Swap:
    """Note it, and keep the VM from being started."""
    before = session.call("VM.get_blocked_operations", vm_ref)
    ours = tuple(name for name in START_OPERATIONS if before.get(name, BLOCKED) == BLOCKED)
    noted = replace(swap, blocked=ours)
    set_key(session, "VM", vm_ref, keys.SWAPPED, None)
    set_key(session, "VM", vm_ref, keys.SWAP, noted.as_text())
    set_keys(session, "VM", vm_ref, dict.fromkeys(ours, BLOCKED), field="blocked_operations")
    session.call("VM.update_allowed_operations", vm_ref)
    return noted


def carry_out(session: Session, vm_ref: str, swap: Swap) -> None:
    """The VM gets the new disks, the keeper the old ones."""
    keeper = session.by_uuid("VM", swap.keeper)
    for one in swap.disks:
        _give(session, one, to=vm_ref, vdi_uuid=one.new, of=(vm_ref, keeper))
        if one.old:
            _give(session, one, to=keeper, vdi_uuid=one.old, of=(vm_ref, keeper))


def complete(session: Session, vm_ref: str, swap: Swap) -> None:
    """Say that all of it is exchanged, before anybody can start the VM."""
    session.call("VM.add_to_other_config", vm_ref, keys.SWAPPED, swap.run_id)


def settle(session: Session, vm_ref: str, swap: Swap, other_config: Mapping[str, str]) -> None:
    """What a dead run left: tidied up after, when it was complete; else put back."""
    if other_config.get(keys.SWAPPED) == swap.run_id:
        end(session, vm_ref, swap)
    else:
        put_back(session, vm_ref, swap)


def put_back(session: Session, vm_ref: str, swap: Swap) -> None:
    """As it was before. A keeper that somebody deleted meanwhile gets nothing back; nor is a disk taken from the VM
    whose old one somebody deleted."""
    # The mark goes first: whoever finds the VM half put back must not take its new disks as complete.
    set_key(session, "VM", vm_ref, keys.SWAPPED, None)
    keeper = ""
    with contextlib.suppress(NotFound):
        keeper = session.by_uuid("VM", swap.keeper)
    for one in swap.disks:
        both = tuple(ref for ref in (vm_ref, keeper) if ref)
        if one.old and not _exists(session, one.old):
            continue
        if one.old:
            _give(session, one, to=vm_ref, vdi_uuid=one.old, of=both)
        else:
            _take(session, vm_ref, one.new)
        if keeper:
            _give(session, one, to=keeper, vdi_uuid=one.new, of=both)
    _unblock(session, vm_ref, swap)
    set_key(session, "VM", vm_ref, keys.SWAP, None)


def end(session: Session, vm_ref: str, swap: Swap) -> None:
    """Of a complete one: the keeper gets its name, the VM may be started; what says that it is complete goes last."""
    with contextlib.suppress(NotFound):
        session.call("VM.set_name_label", session.by_uuid("VM", swap.keeper), swap.kept_name)
    _unblock(session, vm_ref, swap)
    set_key(session, "VM", vm_ref, keys.SWAP, None)
    set_key(session, "VM", vm_ref, keys.SWAPPED, None)


def _exists(session: Session, vdi_uuid: str) -> bool:
    try:
        session.by_uuid("VDI", vdi_uuid)
    except NotFound:
        return False
    return True


def _unblock(session: Session, vm_ref: str, swap: Swap) -> None:
    for name in swap.blocked:
        set_key(session, "VM", vm_ref, name, None, field="blocked_operations")
    session.call("VM.update_allowed_operations", vm_ref)


def _give(session: Session, one: Exchange, *, to: str, vdi_uuid: str, of: Sequence[str]) -> None:
    """One disk to one VM at the device, and away from the other; nothing is done twice."""
    try:
        vdi_ref = session.by_uuid("VDI", vdi_uuid)
    except NotFound:
        return  # somebody deleted it
    there = False
    for vm_ref in of:
        for vbd_ref, vbd in _vbds(session, vm_ref).items():
            has = vbd["VDI"] == vdi_ref
            at = vbd["userdevice"] == one.device
            if vm_ref == to and has and at:
                there = True
            elif has or (vm_ref == to and at):
                session.call("VBD.destroy", vbd_ref)
    if not there:
        plain = {"empty": False, "VM": to, "VDI": vdi_ref, "userdevice": one.device}
        session.call("VBD.create", {**one.vbd, **plain})


def _take(session: Session, vm_ref: str, vdi_uuid: str) -> None:
    with contextlib.suppress(NotFound):
        vdi_ref = session.by_uuid("VDI", vdi_uuid)
        for vbd_ref, vbd in _vbds(session, vm_ref).items():
            if vbd["VDI"] == vdi_ref:
                session.call("VBD.destroy", vbd_ref)


def _vbds(session: Session, vm_ref: str) -> dict[str, dict[str, Any]]:
    """Of its disks, CD drives left out."""
    found = {ref: session.record("VBD", ref) for ref in session.call("VM.get_VBDs", vm_ref)}
    return {ref: vbd for ref, vbd in found.items() if vbd.get("type") == "Disk"}
