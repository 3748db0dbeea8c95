"""The way back: VMs that were failed over are moved home, each by rounds of replication and one short stop.

Home is the pool of the original, on the SR of the original's first disk. The original itself is only looked at: it
has to be halted, stays as it is with a tag and its start blocked, and is never deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xobackup.engine.dr.failover import AT_REST, failed_over
from xobackup.engine.errors import UsageError
from xobackup.engine.job import PoolTarget, SrTarget
from xobackup.engine.move.request import MoveRequest
from xobackup.engine.restore.records import START_OPERATIONS
from xobackup.xapi.errors import NotFound
from xobackup.xapi.other_config import set_key

if TYPE_CHECKING:
    from xobackup.engine.dr.plan import Planning
    from xobackup.engine.dr.spec import Plan
    from xobackup.xapi.session import Session

OLD_TAG = "before the failover"
SUPERSEDED = "xobackup: what this VM was goes on as another one, at the other site or back here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Homeward:
    """One VM of a plan. ``request`` is ``None`` where ``problem`` says why it cannot go home."""

    name: str
    original: str
    """uuid of the VM at home."""
    there: str
    """uuid of the VM at the other site."""
    state: str
    """Of that one: ``Running``, ``Halted``."""
    home: str = ""
    sr: str = ""
    problem: str = ""
    request: MoveRequest | None = None


def homeward(
    plan: Plan,
    planning: Planning,
    vms: Mapping[str, Mapping[str, Any]],
    homes: Mapping[str, tuple[PoolTarget, Session]],
    networks: Mapping[str, str | None],
) -> list[Homeward]:
    """What would be moved where, in the plan's order. ``vms``: records of the other site. ``homes``: the pools that
    may have the originals, by name. ``networks``: the target's mapping, which is turned round."""
    done = failed_over(vms, plan.name)
    back = {there: here for here, there in networks.items() if there and not here.startswith("vlan:")}
    found: list[Homeward] = []
    for group in planning.groups:
        for vm in group.vms:
            over = done.get(vm.vm_uuid)
            if over is None:
                continue
            there = vms[over.ref]
            one = Homeward(
                name=vm.name, original=vm.vm_uuid, there=str(there["uuid"]), state=str(there["power_state"])
            )
            pool, sr, problem = _home(vm.vm_uuid, homes)
            if pool is None or problem:
                found.append(replace(one, problem=problem or "no pool that answers has its original"))
                continue
            request = MoveRequest(
                name=f"failback-{plan.name}-{vm.vm_uuid[:8]}",
                vm_uuid=one.there,
                source=plan.target.pool,
                target=SrTarget(name=f"home of {vm.name}", pool=pool, srs=(sr,), networks=dict(back)),
                ready=group.group.ready,
            )
            found.append(replace(one, home=pool.name, sr=sr, request=request))
    return found


def _home(uuid: str, homes: Mapping[str, tuple[PoolTarget, Session]]) -> tuple[PoolTarget | None, str, str]:
    """The pool that has the original, the SR of its first disk, and what is in the way."""
    for pool, session in homes.values():
        try:
            ref = session.by_uuid("VM", uuid)
        except NotFound:
            continue
        vm = session.record("VM", ref)
        if vm["power_state"] not in AT_REST:
            return pool, "", f"its original runs in pool {pool.name}: shut that one down first"
        vbds = [session.record("VBD", one) for one in vm["VBDs"]]
        disks = sorted((one for one in vbds if one["type"] == "Disk"), key=lambda one: str(one["userdevice"]))
        if not disks:
            return pool, "", "its original has no disk: nobody knows on which SR it belongs"
        vdi = session.record("VDI", disks[0]["VDI"])
        return pool, str(session.call("SR.get_uuid", vdi["SR"])), ""
    return None, "", ""


def set_aside(session: Session, uuid: str) -> None:
    """The original is marked, so that nobody takes it for what came home, and does not start by itself or by mistake.

    Its name stays: plans mean VMs by it.
    """
    ref = session.by_uuid("VM", uuid)
    if session.call("VM.get_power_state", ref) not in AT_REST:
        raise UsageError("its original runs by now: shut that one down first")
    session.call("VM.add_tags", ref, OLD_TAG)
    session.call("VM.remove_from_other_config", ref, "auto_poweron")
    for operation in START_OPERATIONS:
        if operation not in session.call("VM.get_blocked_operations", ref):
            set_key(session, "VM", ref, operation, SUPERSEDED, field="blocked_operations")
    session.call("VM.update_allowed_operations", ref)
