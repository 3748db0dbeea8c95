"""Removing what dead runs left on a pool: at the start of every command that writes to it, and by hand.

Things first, claims last, so that whatever stops this in between leaves what leads to the rest. What the pool does
not let go of now stays, is told, and is tried again at the next start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xobackup.engine import events, keys
from xobackup.engine.active import RESTORE_DISK, interrupted, living
from xobackup.engine.health.removal import remove_check
from xobackup.engine.leftovers.claim import pool_time_s
from xobackup.engine.leftovers.find import ENDED, find
from xobackup.engine.leftovers.judge import Fate, Kind, Leftover, Seen
from xobackup.engine.removal import destroy_vdi, detach_from_control_domains, remove_snapshot
from xobackup.engine.replication.settle import take_back_all
from xobackup.engine.restore.swap import settle as settle_swap
from xobackup.engine.restore.swap import swap_of
from xobackup.engine.taking.owed import StartFailed, StillGoingDown, mark_of, settle
from xobackup.engine.taking.taken import vdis_of
from xobackup.xapi.errors import NotFound, XapiError, XapiFailure
from xobackup.xapi.other_config import set_key
from xobackup.xapi.task import discard
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.engine.journal import Sink
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

STUCK = (XapiFailure, StillGoingDown, StartFailed)
"""The pool says no for now."""
DIED_HERE = "its run on this machine was interrupted"


def recover(world: World, session: Session, pool_uuid: str) -> int:
    """Remove what is certain to be a leftover on this pool; returns how many things.

    What cannot be removed now (the pool says no) stays, with a warning.
    """
    with interrupted(world.active_directory) as found:
        mine = [(path, active) for path, active in found if active.pool_uuid == pool_uuid]
        dead = {active.run_id: DIED_HERE for _, active in mine}
        filled = {active.vm_uuid: active.run_id for _, active in mine if active.kind == RESTORE_DISK}
        seen = replace(look(session, world.active_directory, dead=dead), filled=filled)
        done, left = clean(session, [one for one in find(seen) if one.fate is Fate.REMOVE], world.journal)
        stuck = {one.run_id for one, _ in left} | {one.vm_uuid for one, _ in left}
        for path, active in mine:
            if not {active.run_id, active.vm_uuid} & stuck:
                path.unlink(missing_ok=True)
    return len(done)


def look(session: Session, active_directory: Path, *, dead: Mapping[str, str]) -> Seen:
    """The pool now. ``dead``: runs known to be over, and why. The order of the reads matters: see :class:`Seen`."""
    tasks, vdis, vbds = (session.records(cls) for cls in ("task", "VDI", "VBD"))
    vms = session.records("VM")
    return Seen(
        tasks=tasks,
        vdis=vdis,
        vbds=vbds,
        vms=vms,
        now_s=pool_time_s(session),
        dead=dead,
        living=living(active_directory) - set(dead),
    )


def leftovers(
    world: World, session: Session, pool_uuid: str, *, jobs: Collection[str], over: Collection[str] = ()
) -> list[Leftover]:
    """Everything of ours on the pool, for an operator who looks or cleans by hand.

    ``jobs``: the ids there are; a snapshot of any other job waits for a run that will never come. ``over``: runs that
    the operator knows to be over.
    """
    told = dict.fromkeys(over, "the operator says that its run is over")
    with interrupted(world.active_directory) as found:
        dead = {active.run_id: DIED_HERE for _, active in found if active.pool_uuid == pool_uuid}
        seen = find(look(session, world.active_directory, dead={**dead, **told}))
    return [_by_hand(one, jobs, told) for one in seen]


def _by_hand(one: Leftover, jobs: Collection[str], told: Mapping[str, str]) -> Leftover:
    if one.fate is Fate.JOB_DECIDES and one.run_id in told:
        return replace(one, fate=Fate.REMOVE, reason=told[one.run_id])
    if one.fate is Fate.JOB_DECIDES and one.job_id not in jobs:
        reason = f"its job {one.job_id} is not in this configuration, and its export was never completed or noted"
        return replace(one, fate=Fate.OPERATOR, reason=reason)
    return one


def clean(
    session: Session, found: Sequence[Leftover], journal: Sink
) -> tuple[list[Leftover], list[tuple[Leftover, Exception]]]:
    """Remove these, in their order; returns what went, and what stayed and why.

    A claim stays as long as anything else of its run does.
    """
    done: list[Leftover] = []
    left: list[tuple[Leftover, Exception]] = []
    for one in found:
        if one.kind is Kind.MARK and any(one.run_id == stuck.run_id for stuck, _ in left):
            continue
        try:
            REMOVERS[one.kind](session, one)
        except STUCK as error:
            left.append((one, error))
            journal.write(events.Warned(vm=one.vm_uuid, message=f"{one.what} stays for now: {error}"))
            continue
        done.append(one)
        if one.kind is not Kind.MARK:
            journal.write(events.LeftoverCleaned(vm=one.vm_uuid, what=one.what, reason=one.reason))
    return done, left


def _shutdown(session: Session, one: Leftover) -> None:
    mark = mark_of({keys.SHUTDOWN: one.key}, one.vm_uuid)
    assert mark is not None
    with contextlib.suppress(NotFound):
        settle(session, one.ref, mark)


def end_tasks(session: Session, run_id: str) -> None:
    """At the end of a run: its tasks that have not ended, because the answer that told of them was lost."""
    with contextlib.suppress(XapiError):  # the pool drops them after a day
        found = session.call_once("task.get_all_records")
        for ref, task in found.items() if isinstance(found, dict) else ():
            if keys.run_of_task(str(task.get("name_label", ""))) == run_id and task.get("status") not in ENDED:
                discard(session, ref, adopted=False)


def _task(session: Session, one: Leftover) -> None:
    with contextlib.suppress(XapiError):  # no transfer adopted it, or it has just ended
        session.call("task.cancel", one.ref)
    discard(session, one.ref, adopted=False)


def _attachment(session: Session, one: Leftover) -> None:
    detach_from_control_domains(session, one.ref)


def _snapshot(session: Session, one: Leftover) -> None:
    with contextlib.suppress(NotFound):
        vdis = vdis_of(session, one.ref)
        for vdi_ref in vdis:
            detach_from_control_domains(session, vdi_ref)
        remove_snapshot(session, one.ref, vdis)


def _vm(session: Session, one: Leftover) -> None:
    """A VM whose marking had only begun goes with its disks, which nobody can have used; else those are marked."""
    with contextlib.suppress(NotFound):
        marked = session.record("VM", one.ref)["other_config"].get(keys.RUN) == one.run_id
        disks = {} if marked else vdis_of(session, one.ref)
        for vdi_ref, vdi in disks.items():
            if len(vdi.get("VBDs") or ()) <= 1 and not vdi.get("is_a_snapshot"):
                destroy_vdi(session, vdi_ref)
        # the saved blocks are set before the last step
        session.call("VM.remove_from_blocked_operations", one.ref, "destroy")
        session.call_async("VM.destroy", one.ref)


def _vdi(session: Session, one: Leftover) -> None:
    destroy_vdi(session, one.ref)


def _block(session: Session, one: Leftover) -> None:
    with contextlib.suppress(NotFound):
        set_key(session, "VM", one.ref, one.key, None, field="blocked_operations")
        session.call("VM.update_allowed_operations", one.ref)


def _replica(session: Session, one: Leftover) -> None:
    take_back_all(session, one.run_id)


def _health_check(session: Session, one: Leftover) -> None:
    remove_check(session, one.ref, one.run_id)


def _swap(session: Session, one: Leftover) -> None:
    with contextlib.suppress(NotFound):
        config = session.call("VM.get_other_config", one.ref)
        swap = swap_of(config, one.uuid)
        if swap is not None:
            settle_swap(session, one.ref, swap, config)


def _mark(session: Session, one: Leftover) -> None:
    with contextlib.suppress(NotFound):
        if one.key != keys.RUN:
            for turn in range(2):
                set_key(session, "VM", one.ref, keys.claim_key(one.run_id, turn), None)
            return
        disks = vdis_of(session, one.ref)
        memory = session.call("VM.get_suspend_VDI", one.ref)
        if not is_null(memory):
            disks[memory] = session.record("VDI", memory)
        for vdi_ref, vdi in disks.items():
            if vdi["other_config"].get(keys.RUN) == one.run_id:
                set_key(session, "VDI", vdi_ref, keys.RUN, None)
        set_key(session, "VM", one.ref, keys.RUN, None)


REMOVERS: Mapping[Kind, Callable[[Session, Leftover], None]] = {
    Kind.SWAP: _swap,
    Kind.SHUTDOWN: _shutdown,
    Kind.TASK: _task,
    Kind.ATTACHMENT: _attachment,
    Kind.SNAPSHOT: _snapshot,
    Kind.VM: _vm,
    Kind.VDI: _vdi,
    Kind.BLOCK: _block,
    Kind.REPLICA: _replica,
    Kind.HEALTH_CHECK: _health_check,
    Kind.MARK: _mark,
}
