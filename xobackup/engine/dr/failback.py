"""The way back: VMs that were failed over are moved home, each by rounds of replication and one short stop.

Home is the pool of the original, and of each disk the SR of the original's (:mod:`.home`). The original itself is
only looked at: it has to be halted, stays as it is with a tag and its start blocked, and is never deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xobackup.engine.dr.failover import AT_REST, failed_over
from xobackup.engine.dr.home import home_of, turned_round
from xobackup.engine.errors import UsageError
from xobackup.engine.job import PoolTarget, SrTarget
from xobackup.engine.move.request import MoveRequest
from xobackup.engine.replication.points import CLASSES, Records
from xobackup.engine.restore.records import START_OPERATIONS
from xobackup.xapi.errors import NotFound
from xobackup.xapi.other_config import set_key

if TYPE_CHECKING:
    from xobackup.engine.dr.plan import Planning
    from xobackup.engine.dr.spec import Group, Plan
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
    group: Group
    home: str = ""
    sr: str = ""
    """Names of its SRs."""
    first: str = ""
    """What a first round would transfer: the differences, or why all of it."""
    problem: str = ""
    request: MoveRequest | None = None


def homeward(
    plan: Plan,
    planning: Planning,
    seen: Records,
    homes: Mapping[str, tuple[PoolTarget, Session]],
    networks: Mapping[str, str | None],
) -> list[Homeward]:
    """What would be moved where, in the plan's order. ``seen``: records of the other site. ``homes``: the pools that
    may have the originals, by name. ``networks``: the target's mapping, which is turned round."""
    vms = seen["VM"]
    done = failed_over(vms, plan.name)
    looked: dict[str, Records] = {}
    found: list[Homeward] = []
    for group in planning.groups:
        for vm in group.vms:
            over = done.get(vm.vm_uuid)
            if over is None:
                continue
            there = vms[over.ref]
            one = Homeward(
                name=vm.name,
                original=vm.vm_uuid,
                there=str(there["uuid"]),
                state=str(there["power_state"]),
                group=group.group,
            )
            pool = _pool_of(vm.vm_uuid, homes)
            if pool is None:
                found.append(replace(one, problem="no pool that answers has its original"))
                continue
            if pool.name not in looked:
                session = homes[pool.name][1]
                looked[pool.name] = {cls: session.records(cls) for cls in (*CLASSES, "network", "VIF")}
            home = home_of(vm.vm_uuid, over.ref, seen, looked[pool.name])
            one = replace(one, home=pool.name, sr=home.sr_names, first=home.first, problem=home.problem)
            if not home.problem:
                target = SrTarget(
                    name=f"home of {vm.name}",
                    pool=pool,
                    srs=home.srs,
                    disk_srs=home.disk_srs,
                    networks={**turned_round(networks), **home.networks},
                )
                request = MoveRequest(
                    name=f"failback-{plan.name}-{vm.vm_uuid[:8]}",
                    vm_uuid=one.there,
                    source=plan.target.pool,
                    target=target,
                    ready=group.group.ready,
                )
                one = replace(one, request=request)
            found.append(one)
    return found


def _pool_of(uuid: str, homes: Mapping[str, tuple[PoolTarget, Session]]) -> PoolTarget | None:
    for pool, session in homes.values():
        try:
            session.by_uuid("VM", uuid)
        except NotFound:
            continue
        return pool
    return None


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
