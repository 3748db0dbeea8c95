"""Keys on the pool's objects, and blocked operations.

XAPI has no *set one key*: it is removed, then added, and a key somebody else added in between makes the second step
fail.

The keys are Xen Orchestra's, so that it and we recognise each other's snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from xobackup.xapi.errors import ConnectionLost, DuplicateKey, ProtocolError

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

DATETIME = "xo:backup:datetime"
"""Time of the snapshot, ``YYYYMMDDTHH:MM:SSZ``; on the snapshot VM and its disks."""
JOB = "xo:backup:job"
SCHEDULE = "xo:backup:schedule"
VM = "xo:backup:vm"
"""uuid of the VM that was snapshotted."""
SR = "xo:backup:sr"
"""uuid of the SR a replica is on."""
EXPORTED = "xo:backup:exported"
""""true" after a successful export."""
CHAIN_LENGTH = "xo:backup:deltaChainLength"
CONTENT_KEY = "xo:backup:contentKey"
"""uuid of the snapshot disk whose content this disk has."""
QCOW2_FIX = "xo:backup:includeNonNbdQcow2Fix"
BASE_DELTA_VDI = "xo:base_delta_vdi"
COPY_OF = "xo:copy_of"
IMPORT_TASK = "xo:import:task"
IMPORT_LENGTH = "xo:import:length"

RESET_KEYS = (DATETIME, JOB, SCHEDULE, VM, EXPORTED, CHAIN_LENGTH, CONTENT_KEY, QCOW2_FIX)
"""What is taken off a live VM and its disks before a run, and off everything restored."""

BLOCK_REASON = "xobackup: backup in progress"
"""Text of the operations we block; by it a later run knows its own leftovers."""
MIGRATIONS = ("pool_migrate", "migrate_send")
"""Operations that would move a VM's disks away under an export."""

TRIES = 5


def set_key(
    session: Session, cls: str, ref: str, key: str, value: str | None, *, field: str = "other_config"
) -> None:
    """Set ``key`` of a map field, or remove it (``None``)."""
    attempt = 1
    while True:
        session.call(f"{cls}.remove_from_{field}", ref, key)
        if value is None:
            return
        try:
            session.call(f"{cls}.add_to_{field}", ref, key, value)
            return
        except DuplicateKey:
            if attempt >= TRIES:
                raise
        except ConnectionLost:  # removing and adding again comes to the same, whether it was added or not
            if attempt >= TRIES:
                raise
        attempt += 1


def set_keys(
    session: Session, cls: str, ref: str, changes: Mapping[str, str | None], *, field: str = "other_config"
) -> None:
    """Set several keys, one after the other; ``None`` removes."""
    for key, value in changes.items():
        set_key(session, cls, ref, key, value, field=field)


def reset_keys(session: Session, cls: str, ref: str, *, present: Iterable[str] | None = None) -> None:
    """Take XO's backup keys off an object; with ``present`` (the keys it has) only those that are there."""
    wanted = RESET_KEYS if present is None else [key for key in RESET_KEYS if key in set(present)]
    set_keys(session, cls, ref, dict.fromkeys(wanted))


def block_operations(
    session: Session, vm_ref: str, operations: Iterable[str] = MIGRATIONS, *, reason: str = BLOCK_REASON
) -> list[str]:
    """Block operations of a VM; returns those that are ours, leaving alone what somebody else had blocked."""
    before = _blocked(session, vm_ref)
    ours = [name for name in operations if before.get(name, reason) == reason]
    for name in ours:
        if name not in before:
            set_key(session, "VM", vm_ref, name, reason, field="blocked_operations")
    if ours:
        session.call("VM.update_allowed_operations", vm_ref)
    return ours


def unblock_operations(
    session: Session, vm_ref: str, operations: Iterable[str] = MIGRATIONS, *, reason: str = BLOCK_REASON
) -> list[str]:
    """Unblock what carries our ``reason``; returns which."""
    before = _blocked(session, vm_ref)
    ours = [name for name in operations if before.get(name) == reason]
    for name in ours:
        set_key(session, "VM", vm_ref, name, None, field="blocked_operations")
    if ours:
        session.call("VM.update_allowed_operations", vm_ref)
    return ours


def _blocked(session: Session, vm_ref: str) -> Mapping[str, str]:
    found = session.call("VM.get_blocked_operations", vm_ref)
    if not isinstance(found, dict):
        raise ProtocolError("VM.get_blocked_operations", f"expected a map, found {type(found).__name__}")
    return found
