"""One health check: restore, boot, ask, remove. The removal comes last whatever came before.

A :data:`Source` makes the VM, marked with the check's id from the beginning: a restore here, a clone of a replica in
:mod:`.replica`. Everything after it is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remotes.errors import RemoteError
from vhd.errors import VhdError
from xobackup.clock import utc
from xobackup.engine import keys
from xobackup.engine.active import HEALTH_CHECK, Active
from xobackup.engine.errors import Cancelled, EngineError, UsageError
from xobackup.engine.health import guest
from xobackup.engine.health.boot import Machine
from xobackup.engine.health.probes import ask
from xobackup.engine.health.removal import remove_check
from xobackup.engine.health.request import CheckRequest, CheckResult, Step
from xobackup.engine.leftovers.claim import touching
from xobackup.engine.restore.plan import DiskRestore, RestorePlan, VmRequest
from xobackup.engine.restore.vm import plan_restore, restore_vm
from xobackup.xapi.errors import XapiError
from xobackup.xapi.other_config import set_key
from xobackup.xva.errors import XvaError

if TYPE_CHECKING:
    from xobackup.engine.leftovers.claim import Claim
    from xobackup.engine.restore.vm import Restored
    from xobackup.engine.world import World
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

TAG = "xo:no-bak=Health Check"
"""Xen Orchestra's: no job backs up the VM of a check."""
BROKEN = (VhdError, XvaError, RemoteError)
"""A restore point that cannot be read is what a check is there to find."""
NAME = "Health Check - "
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The VM to boot. ``settled``: it was made with the check's marks and claim."""

    vm_ref: str
    size_bytes: int
    blocks_compared: int
    warnings: tuple[str, ...] = ()
    settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is checked: a restore point, wherever it is."""

    vm_uuid: str
    vm_name: str
    point: str
    tags: tuple[str, ...]
    remote: str
    """Or the target that has the replica."""
    pool: str
    sr: str
    size_bytes: int


Source = Callable[[str, "Claim"], Made]
"""Makes the VM; it is given the check's id and the claim of its work."""


def plan_check(
    world: World, session: Session, point: RestorePoint, request: CheckRequest, *, remote: str
) -> RestorePlan:
    """The restore that :func:`check_point` begins with; touches nothing. Raises :class:`UsageError`."""
    vifs = point.metadata.get("vifs", {})
    devices = [str(vif["device"]) for vif in vifs.values() if isinstance(vif, dict) and "device" in vif]
    wanted = VmRequest(
        name=f"{NAME}{point.vm_name or point.vm_uuid}",
        sr=request.sr,
        networks=dict.fromkeys(devices, request.network),
        new_macs=True,
        memory=request.memory,
        tags=(TAG,),
    )
    return replace(plan_restore(world, session, point, wanted, remote=remote), blocked_operations={})


def check_point(
    world: World,
    session: Session,
    repository: Repository,
    plan: RestorePlan,
    request: CheckRequest,
    *,
    remote: str,
    pool: str,
    tell: Tell = lambda _: None,
) -> CheckResult:
    """Check the restore point of ``plan``. A check that fails is a result; raised is only what stops everything."""
    point = plan.point
    tags = point.metadata.get("vm", {}).get("tags")
    subject = Subject(
        vm_uuid=point.vm_uuid,
        vm_name=point.vm_name or point.vm_uuid,
        point=point.id,
        tags=tuple(tags) if isinstance(tags, list) else (),
        remote=remote,
        pool=pool,
        sr=request.sr,
        size_bytes=plan.size_bytes,
    )

    def restored(check_id: str, _claim: Claim) -> Made:
        return _made(restore_vm(world, session, repository, _marked(plan, check_id)))

    return check(world, session, subject, request, restored, first="restore", tell=tell)


def check(
    world: World,
    session: Session,
    subject: Subject,
    request: CheckRequest,
    source: Source,
    *,
    first: str,
    tell: Tell = lambda _: None,
) -> CheckResult:
    """Check what ``source`` makes. ``first``: what the report calls the making of it."""
    check_id = world.new_id()
    steps: list[Step] = []
    made: list[Made] = []
    started_at = utc(world.clock.now_s()).isoformat(timespec="seconds")
    pool_uuid = next((str(one["uuid"]) for one in session.records("pool").values()), "")
    active = Active(
        run_id=check_id,
        job_id="",
        job="health check",
        pool_uuid=pool_uuid,
        vm_uuid=subject.vm_uuid,
        since_s=world.clock.now_s(),
        kind=HEALTH_CHECK,
    )
    reason, removed = "", True
    with touching(world.active_directory, session, active) as claim:
        try:
            with _timed(world, steps, first, tell):
                made.append(source(check_id, claim))
            if not made[0].settled:
                claim.hold(made[0].vm_ref)
                uuid = session.call("VM.get_uuid", made[0].vm_ref)
                set_key(session, "VM", made[0].vm_ref, keys.HEALTH_CHECK, f"{check_id} {uuid}")
            _bring_up(world, session, made[0].vm_ref, subject=subject, request=request, steps=steps, tell=tell)
        except (Cancelled, UsageError):
            raise
        except (EngineError, XapiError, *BROKEN) as error:
            reason = _told(error)
        finally:
            if made:
                removed = _remove(session, made[0].vm_ref, check_id, tell)
    return CheckResult(
        vm_uuid=subject.vm_uuid,
        vm_name=subject.vm_name,
        point=subject.point,
        remote=subject.remote,
        pool=subject.pool,
        sr=subject.sr,
        started_at=started_at,
        ok=not reason,
        reason=reason,
        steps=tuple(steps),
        size_bytes=subject.size_bytes,
        blocks_compared=sum(one.blocks_compared for one in made),
        removed=removed,
        warnings=tuple(warning for one in made for warning in one.warnings),
    )


def _bring_up(
    world: World,
    session: Session,
    vm_ref: str,
    *,
    subject: Subject,
    request: CheckRequest,
    steps: list[Step],
    tell: Tell,
) -> None:
    machine = Machine(
        world=world, session=session, vm_ref=vm_ref, until_s=world.clock.monotonic_s() + request.timeout_s
    )
    script = guest.wants_script(list(subject.tags)) if request.script is None else request.script
    machine.make_harmless(script=script)
    with _timed(world, steps, "boot", tell):
        machine.start()
    if request.tools:
        with _timed(world, steps, "guest tools", tell):
            machine.wait_for_tools()
    if script:
        with _timed(world, steps, "script in the guest", tell):
            machine.wait_for_script()
    told = {
        "XOBACKUP_VM_UUID": subject.vm_uuid,
        "XOBACKUP_VM_NAME": subject.vm_name,
        "XOBACKUP_POINT": subject.point,
    }
    for probe in request.probes:
        with _timed(world, steps, probe.name, tell):
            ask(
                probe,
                address=lambda: guest.address_of(machine.metrics()),
                environment=told,
                until_s=machine.until_s,
                clock=world.clock,
                check=world.cancel.check,
            )


def _marked(plan: RestorePlan, check_id: str) -> RestorePlan:
    """The same restore, with the check's id on everything it makes."""

    def disk(one: DiskRestore) -> DiskRestore:
        config = {**one.vdi["other_config"], keys.HEALTH_CHECK: check_id}
        return replace(one, vdi={**one.vdi, "other_config": config})

    return replace(
        plan,
        vm={**plan.vm, "other_config": {**plan.vm["other_config"], keys.HEALTH_CHECK: check_id}},
        disks=tuple(disk(one) for one in plan.disks),
        memory=None if plan.memory is None else disk(plan.memory),
    )


def _made(restored: Restored) -> Made:
    return Made(
        vm_ref=restored.vm_ref,
        size_bytes=restored.size_bytes,
        blocks_compared=restored.compared,
        warnings=restored.warnings,
    )


@contextlib.contextmanager
def _timed(world: World, steps: list[Step], name: str, tell: Tell) -> Iterator[None]:
    began_s, ok = world.clock.monotonic_s(), False
    tell(f"{name} ...")
    try:
        yield
        ok = True
    finally:
        steps.append(Step(name=name, seconds=round(world.clock.monotonic_s() - began_s, 3), ok=ok))


def _remove(session: Session, vm_ref: str, check_id: str, tell: Tell) -> bool:
    """Whether it is gone; what stays carries the check's id, and the next start removes it."""
    try:
        remove_check(session, vm_ref, check_id)
    except XapiError as error:
        tell(f"the VM of the check could not be removed now, the next start tries again: {error}")
        return False
    return True


def _told(error: Exception) -> str:
    code = getattr(error, "code", "")
    if code == "HOST_NOT_ENOUGH_FREE_MEMORY":
        return f"no host has enough free memory to boot it: {error}"
    return str(error)
