"""What a backup writes on the snapshots it made, and takes off live VMs before a snapshot copies it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from xobackup.engine import keys
from xobackup.xapi.other_config import set_keys

if TYPE_CHECKING:
    from xobackup.engine.taking.taken import Taken
    from xobackup.engine.view import VmView
    from xobackup.xapi.session import Session


def reset_marks(session: Session, vm: VmView) -> None:
    """Take stale backup marks off the live VM and its disks: a snapshot would copy them."""
    if any(key in vm.other_config for key in keys.RESET):
        set_keys(session, "VM", vm.ref, dict.fromkeys(keys.RESET))
    for disk in vm.disks:
        config = session.call("VDI.get_other_config", disk.vdi_ref)
        stale = {key: None for key in keys.RESET if key in config}
        if stale:
            set_keys(session, "VDI", disk.vdi_ref, stale)


def mark_exported(session: Session, taken: Taken, chain_lengths: Mapping[str, int], remotes: Iterable[str]) -> None:
    """Say that the snapshot's content is safe on ``remotes``, so that it may be the base of the next delta.

    ``chain_lengths``: deltas since the last full, by live VDI uuid. Disks first: the VM's mark means all are marked.
    """
    common = {keys.EXPORTED: "true", keys.REMOTES: ",".join(sorted(remotes))}
    for live, (vdi_ref, _) in taken.vdis.items():
        if live in chain_lengths:
            write_marks(session, "VDI", vdi_ref, {keys.CHAIN_LENGTH: str(chain_lengths[live]), **common})
    longest = max(chain_lengths.values(), default=0)
    write_marks(session, "VM", taken.ref, {keys.CHAIN_LENGTH: str(longest), **common})


def write_marks(session: Session, cls: str, ref: str, marks: Mapping[str, str]) -> None:
    """Add keys to a snapshot of ours, all at once: nobody else writes there, and every call costs a round trip."""
    config = session.call(f"{cls}.get_other_config", ref)
    session.call(f"{cls}.set_other_config", ref, {**keys.without_claims(config), **marks})
