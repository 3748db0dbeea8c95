"""What a run will do, decided before anything is touched: pure, and shown by ``xobackup plan``.

Per VM: which disks, and per disk the transfers (:class:`~xobackup.engine.base.Route`), each with its base or the
reason why there is none, and an estimate of its size. Skipped VMs and disks carry their reasons too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from xobackup.engine.base import RemoteTip, Route, plan_routes
from xobackup.engine.full.plan import ArchivePlan, archive_data, plan_archive
from xobackup.engine.hooks.guest import guest_tag
from xobackup.engine.job import FULL, Job
from xobackup.engine.placing.choice import Placement
from xobackup.engine.reading.ladder import STREAMS, Terms, told
from xobackup.engine.select import MIGRATING, Skipped, Why, select_disks
from xobackup.engine.space.judge import HINT, SpaceCheck, sr_shortages
from xobackup.engine.taking.way import PLAIN, Method, TakingPlan, plan_taking
from xobackup.engine.turns.chains import Chain, awaited, depth_warnings, unhealthy_chains
from xobackup.engine.turns.chains import told as told_chains
from xobackup.engine.view import DiskView, VmView
from xobackup.repository.options import DISK_MAX_BYTES

MIGRATED = "it is being migrated"
TipsByDisk = Mapping[str, Mapping[str, RemoteTip]]
"""Live VDI uuid -> remote -> tip. A remote that could not be read is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """One disk of a VM's plan."""

    disk: DiskView
    routes: tuple[Route, ...]

    @property
    def estimated_bytes(self) -> int:
        """Read from the pool, summed over the routes."""
        return sum(estimate(self.disk, route) for route in self.routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPlan:
    """One VM's plan. ``refusal`` says why it cannot be backed up as things are."""

    vm: VmView
    notes: tuple[str, ...] = ()
    """What the operator should know, and need not mind."""
    disks: tuple[DiskPlan, ...] = ()
    skipped_disks: tuple[Skipped, ...] = ()
    refusal: str = ""
    hint: str = ""
    """What can be done about it."""
    warnings: tuple[str, ...] = ()
    taking: TakingPlan = PLAIN
    """In which way the VM is taken."""
    remotes: tuple[str, ...] = ()
    """Where it goes."""
    placement: Placement | None = None
    """Why there, where the job spreads its VMs over its remotes."""
    snapshot_retention: int = 0
    """Snapshots that stay on the pool for their own sake."""
    archive: ArchivePlan | None = None
    """A full backup: all of it in one stream; then the disks have no routes."""

    @property
    def estimated_bytes(self) -> int:
        if self.archive is not None:
            return self.archive.bound_bytes
        return sum(disk.estimated_bytes for disk in self.disks)

    @property
    def unexpected_full(self) -> bool:
        """A chain would start again without having been asked to."""
        return any(route.full is not None and not route.full.expected for disk in self.disks for route in disk.routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """The backup of one pool's database. ``newest`` and ``expires``: by remote."""

    pool: str
    uuid: str
    name: str
    remotes: tuple[str, ...]
    newest: dict[str, str]
    expires: dict[str, list[str]]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A whole run's plan."""

    job: str
    vms: tuple[VmPlan, ...]
    skipped: tuple[Skipped, ...]
    problems: tuple[str, ...] = field(default=())
    """Pools and remotes that could not be looked at."""
    pools: tuple[PoolPlan, ...] = ()
    """Databases to back up."""
    hooks: tuple[Mapping[str, Any], ...] = ()
    """What is run around all that (:func:`~xobackup.engine.hooks.hook.hook_data`)."""
    limits: tuple[str, ...] = ()
    """What is in force, as sentences."""
    warnings: tuple[str, ...] = ()
    """What concerns no single VM."""
    checks: tuple[str, ...] = ()
    """Health checks that will follow, and which not, as sentences."""
    group: Mapping[str, Any] | None = None
    """VMs whose snapshots are taken together (:func:`~xobackup.engine.group.plan.plan_group`)."""

    @property
    def estimated_bytes(self) -> int:
        return sum(vm.estimated_bytes for vm in self.vms)


def plan_vm(
    job: Job,
    vm: VmView,
    tips: TipsByDisk,
    *,
    terms: Terms = STREAMS,
    warnings: tuple[str, ...] = (),
    remotes: tuple[str, ...] | None = None,
) -> VmPlan:
    """Plan one VM from what the pool and the remotes have. ``remotes``: where it goes; ``None``: all of the job."""
    remotes = job.destinations if remotes is None else remotes
    selection = select_disks(job.exclude_disks, vm.disks)
    if job.settings.mode == FULL and job.destinations:
        disks = tuple(DiskPlan(disk=disk, routes=()) for disk in selection.chosen)
        archive = plan_archive(job, selection.chosen, remotes)
    else:
        disks, archive = tuple(_disk_plan(job, disk, tips, terms) for disk in selection.chosen), None
    taking = plan_taking(job, vm, [one.name or one.uuid for one in selection.skipped])
    snapshotted = selection.chosen if taking.method is not Method.WITHOUT else ()
    refusal, hint = _refusal(job, vm, selection.chosen, disks, snapshotted)
    if job.settings.space_check is SpaceCheck.WARN:
        short = sr_shortages(snapshotted, job.settings.sr_free_min)
        warnings = (*warnings, *(one.reason for one in short))
    return VmPlan(
        vm=vm,
        notes=_notes(job, vm, selection.chosen),
        disks=disks,
        skipped_disks=selection.skipped,
        refusal=refusal,
        hint=hint,
        warnings=(*warnings, *depth_warnings(snapshotted)),
        taking=taking,
        remotes=remotes,
        snapshot_retention=job.settings.snapshot_retention,
        archive=archive,
    )


def _notes(job: Job, vm: VmView, disks: tuple[DiskView, ...]) -> tuple[str, ...]:
    tag = guest_tag(job.guest_hooks, vm)
    told = [f"its guest is told before and after the snapshot, because of its tag {tag}"] if tag else []
    return (*told, *(f"{disk.name or disk.vdi_uuid}: {note}" for disk in disks for note in disk.notes))


def _refusal(
    job: Job,
    vm: VmView,
    chosen: tuple[DiskView, ...],
    disks: tuple[DiskPlan, ...],
    snapshotted: tuple[DiskView, ...],
) -> tuple[str, str]:
    """Why the VM cannot be backed up as things are, and what can be done or will be; nothing when it can."""
    settings = job.settings
    refusal = refuse_vm(job, vm, chosen) or no_snapshot_of(snapshotted) or _no_way(disks)
    if not refusal and settings.space_check is SpaceCheck.REFUSE:
        short = sr_shortages(snapshotted, settings.sr_free_min)
        return "; ".join(one.reason for one in short), HINT if short else ""
    chains = chains_of(job, chosen)
    waits = refusal == told_chains(chains, settings.uncoalesced_max)
    return refusal, awaited(chains, settings.chain_wait_s) if waits else ""


def _disk_plan(job: Job, disk: DiskView, tips: TipsByDisk, terms: Terms) -> DiskPlan:
    known, interval = tips.get(disk.vdi_uuid, {}), job.settings.full_interval
    return DiskPlan(disk=disk, routes=plan_routes(disk, known, job_id=job.id, full_interval=interval, terms=terms))


def refuse_vm(job: Job, vm: VmView, disks: tuple[DiskView, ...]) -> str:
    """Why ``vm`` cannot be backed up as things are; ``""`` when it can."""
    moving = [operation for operation in vm.current_operations if operation in MIGRATING]
    if moving:
        return MIGRATED
    for disk in disks:
        if disk.problem:
            return f"disk {disk.name or disk.vdi_uuid}: {disk.problem}"
    return told_chains(chains_of(job, disks), job.settings.uncoalesced_max)


def no_snapshot_of(disks: tuple[DiskView, ...]) -> str:
    """A disk of which no snapshot can be taken, as a sentence; ``""`` when all are well."""
    for disk in disks:
        if disk.no_snapshot:
            name, example = disk.name or disk.vdi_uuid, f'disks.exclude = [{{ uuid = "{disk.vdi_uuid}" }}]'
            return f"no snapshot can be taken of disk {name}: {disk.no_snapshot}; leave it out: {example}"
    return ""


def chains_of(job: Job, disks: tuple[DiskView, ...]) -> tuple[Chain, ...]:
    """Chains for which the job refuses a VM, or waits."""
    return unhealthy_chains(disks, job.settings.uncoalesced_max) if job.settings.check_chains else ()


def _no_way(disks: tuple[DiskPlan, ...]) -> str:
    """A disk that cannot be read on the job's terms, or stored at all, as a sentence; ``""`` when all can."""
    for disk in disks:
        size = disk.disk.virtual_size_bytes
        if disk.routes and size > DISK_MAX_BYTES:
            most = f"at most {DISK_MAX_BYTES >> 40} TiB can be stored"
            return f"disk {disk.disk.name or disk.disk.vdi_uuid}: {most}, it has {size >> 30} GiB"
        for route in disk.routes:
            if route.ladder.first is None:
                return f"disk {disk.disk.name or disk.disk.vdi_uuid}: {'; '.join(told(route.ladder.passed))}"
    return ""


def no_disks(plan: VmPlan) -> Skipped | None:
    """A VM all of whose disks are left out is skipped, not failed. One that has none is saved as it is."""
    if plan.disks or not plan.skipped_disks:
        return None
    reason = "all its disks are excluded"
    return Skipped(uuid=plan.vm.uuid, name=plan.vm.name, why=Why.NO_DISKS, reason=reason, matched=True)


def estimate(disk: DiskView, route: Route) -> int:
    """Bytes a route reads, as far as the pool tells: what the live leaf holds, for a full at most the whole disk.

    The leaf holds what was written since the newest snapshot; an older base means more. It is a hint for humans.
    """
    if route.delta:
        return min(disk.used_bytes, disk.virtual_size_bytes)
    return disk.virtual_size_bytes


def limit_fulls(plans: tuple[VmPlan, ...], limit: int | None) -> frozenset[str]:
    """Uuids of VMs to refuse because more than ``limit`` of them would start a chain again unasked."""
    if limit is None:
        return frozenset()
    unexpected = [plan.vm.uuid for plan in plans if plan.unexpected_full and not plan.refusal]
    return frozenset(unexpected) if len(unexpected) > limit else frozenset()


def as_data(plan: RunPlan) -> dict[str, Any]:
    """The plan as JSON data, stable keys, for ``--json``."""
    return {
        "job": plan.job,
        "estimated_bytes": plan.estimated_bytes,
        "problems": list(plan.problems),
        "vms": [vm_data(vm) for vm in plan.vms],
        "skipped": [asdict(skipped) for skipped in plan.skipped],
        "pools": [asdict(pool) for pool in plan.pools],
        "hooks": [dict(hook) for hook in plan.hooks],
        "limits": list(plan.limits),
        "warnings": list(plan.warnings),
        "group": None if plan.group is None else dict(plan.group),
    }


def vm_data(plan: VmPlan) -> dict[str, Any]:
    """One VM's plan as JSON data."""
    return {
        "uuid": plan.vm.uuid,
        "name": plan.vm.name,
        "pool": plan.vm.pool,
        "refusal": plan.refusal,
        "hint": plan.hint,
        "warnings": list(plan.warnings),
        "estimated_bytes": plan.estimated_bytes,
        "taking": plan.taking.as_data(),
        "remotes": list(plan.remotes),
        "placement": None if plan.placement is None else asdict(plan.placement),
        "snapshot_retention": plan.snapshot_retention,
        "archive": None if plan.archive is None else archive_data(plan.archive),
        "disks": [_disk_data(disk) for disk in plan.disks],
        "skipped_disks": [asdict(skipped) for skipped in plan.skipped_disks],
        "notes": list(plan.notes),
    }


def _disk_data(plan: DiskPlan) -> dict[str, Any]:
    return {
        "uuid": plan.disk.vdi_uuid,
        "name": plan.disk.name,
        "device": plan.disk.userdevice,
        "virtual_size_bytes": plan.disk.virtual_size_bytes,
        "routes": [
            {
                "mode": "delta" if route.delta else "full",
                "base": route.base.vdi_uuid if route.base else None,
                "remotes": list(route.remotes),
                "full": route.full.value if route.full else None,
                "expected": route.full is None or route.full.expected,
                "reason": route.reason,
                "via": route.ladder.first.value if route.ladder.first else None,
                "not_via": told(route.ladder.better),
                "estimated_bytes": estimate(plan.disk, route),
            }
            for route in plan.routes
        ],
    }
