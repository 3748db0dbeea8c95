"""A VM that we shut down is owed a start, whatever happens to us: a key on it, written before it is shut down.

The key says which run of which job asked it to go down, and since when it had been running. Whether that run lives,
its mark on this machine and its claim on the VM say (:mod:`xobackup.engine.leftovers`). Who finds the key of a run
that is over starts the VM, when it is halted and nobody has started it since (its start time is still the one in the
key), and takes the key away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xobackup.engine import keys
from xobackup.engine.errors import EngineError
from xobackup.xapi.errors import NotFound, XapiError
from xobackup.xapi.other_config import set_key
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

NEVER = "never"
GOING_DOWN = frozenset({"clean_shutdown", "hard_shutdown", "shutdown"})
SETTLE_S = 60.0
"""How long a VM that is going down is waited for before it is left to a later look."""


class StillGoingDown(EngineError):
    """Nobody can tell yet whether the VM will be halted."""

    transient = True


class StartFailed(EngineError):
    """The VM that was shut down for its backup could not be started again."""

    def __init__(self, why: object) -> None:
        hint = "start it by hand, or run xobackup again: it starts the VM when it still is halted"
        super().__init__(f"it was shut down for its backup and could not be started again: {why}", hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownMark:
    """What the key on a VM says."""

    run_id: str
    job_id: str
    vm_uuid: str
    started: str
    """When the VM had been started, as the pool says; :data:`NEVER` when it does not."""

    def __str__(self) -> str:
        return " ".join((self.run_id, self.job_id, self.vm_uuid, self.started))


def mark_of(config: Mapping[str, str], vm_uuid: str) -> ShutdownMark | None:
    """The mark in a VM's ``other_config``; ``None`` without one, or when it was copied from another VM."""
    words = str(config.get(keys.SHUTDOWN, "")).split()
    if len(words) != 4 or words[2] != vm_uuid:
        return None
    return ShutdownMark(run_id=words[0], job_id=words[1], vm_uuid=words[2], started=words[3])


def start_time(session: Session, vm_ref: str) -> str:
    """When the VM was last started, as one word."""
    with contextlib.suppress(NotFound):
        metrics = session.call("VM.get_metrics", vm_ref)
        if not is_null(metrics):
            return "".join(str(session.call("VM_metrics.get_start_time", metrics)).split()) or NEVER
    return NEVER


def settle(session: Session, vm_ref: str, mark: ShutdownMark) -> str:
    """Pay what a run that is over owes; returns what was done, in words. Raises :class:`StillGoingDown`,
    :class:`StartFailed` or the pool's error, and then the key stays."""
    state = wait_until_settled(session, vm_ref)
    done = f"the VM is {state.lower()}"
    if state == "Halted" and start_time(session, vm_ref) == mark.started:
        start(session, vm_ref)
        done = "the VM was still halted and is started again"
    elif state == "Halted":
        done = "somebody has started the VM since, and it was shut down again"
    set_key(session, "VM", vm_ref, keys.SHUTDOWN, None)
    return done


def wait_until_settled(session: Session, vm_ref: str, *, wait_s: float = SETTLE_S) -> str:
    """The VM's power state once nothing shuts it down any more."""
    deadline_s = session.clock.monotonic_s() + wait_s
    while True:
        operations = session.call("VM.get_current_operations", vm_ref)
        if not GOING_DOWN & set(dict(operations).values()):
            return str(session.call("VM.get_power_state", vm_ref))
        if session.clock.monotonic_s() >= deadline_s:
            raise StillGoingDown("it is being shut down, and nobody can tell yet whether it will be halted")
        session.clock.sleep(session.timeouts.poll_s)


def start(session: Session, vm_ref: str) -> None:
    """Start a halted VM; one that runs already is as good. Raises :class:`StartFailed`."""
    try:
        session.call_async("VM.start", vm_ref, False, False)
    except XapiError as error:
        if not _runs(session, vm_ref):
            raise StartFailed(error) from error


def _runs(session: Session, vm_ref: str) -> bool:
    """Whether it runs after all: the answer was lost, or somebody else was faster."""
    try:
        return bool(session.call("VM.get_power_state", vm_ref) == "Running")
    except XapiError:
        return False
