"""What a failover would do now, VM by VM, and what is in the way. Pure.

The VMs of a plan are found among the replicas, not in their own pool, which may be gone. Where that pool answers, a
VM that a rule means and that has no replica is told as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from xobackup.engine.dr.look import Look, Original
from xobackup.engine.errors import UsageError
from xobackup.engine.replication.marks import HA_TAG, TAG, WHOLE_TAG
from xobackup.engine.replication.points import ReplicaPoint, find_points
from xobackup.engine.replication.records import nics
from xobackup.engine.restore.plan import named
from xobackup.engine.select import told

if TYPE_CHECKING:
    from xobackup.engine.dr.spec import Group, Plan
    from xobackup.engine.job import VmRule

UNKNOWN = "unknown"
"""State of an original: no pool that answered has it."""
OURS = (TAG, WHOLE_TAG, HA_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVm:
    """One VM. ``problems`` stand in the way of its failover; ``warnings`` do not."""

    vm_uuid: str
    name: str
    point: ReplicaPoint | None
    age_s: float
    memory_bytes: int
    networks: tuple[str, ...]
    """Of its NICs at the other site, by device."""
    original: str
    """Power state of the VM itself; :data:`UNKNOWN`."""
    original_pool: str = ""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """For JSON, stable keys."""
        return {
            "vm_uuid": self.vm_uuid,
            "name": self.name,
            "point": self.point.id if self.point else None,
            "age_s": round(self.age_s, 1) if self.point else None,
            "memory_bytes": self.memory_bytes,
            "networks": list(self.networks),
            "original": self.original,
            "original_pool": self.original_pool,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGroup:
    """A group with the VMs that its rules mean, by name. ``problems``: rules that mean none."""

    group: Group
    vms: tuple[PlannedVm, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """The whole plan as of now."""

    name: str
    groups: tuple[PlannedGroup, ...]
    memory_needed_bytes: int
    memory_free_bytes: int
    fitting: int
    """How many VMs find a host with that much memory."""
    problems: tuple[str, ...] = ()
    """Of no single VM."""
    warnings: tuple[str, ...] = ()

    @property
    def vms(self) -> list[PlannedVm]:
        return [vm for group in self.groups for vm in group.vms]

    @property
    def possible(self) -> list[PlannedVm]:
        """Those with nothing in the way."""
        return [vm for vm in self.vms if not vm.problems]

    @property
    def some(self) -> bool:
        """Whether a failover could bring up anything."""
        return bool(self.possible) and self.fitting > 0

    @property
    def all_problems(self) -> list[str]:
        """As sentences that name what they are about."""
        return self.general_problems + [f"{vm.name}: {text}" for vm in self.vms for text in vm.problems]

    @property
    def general_problems(self) -> list[str]:
        """Those of no single VM."""
        of_groups = [f"group {one.group.name}: {text}" for one in self.groups for text in one.problems]
        return [*self.problems, *of_groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replicated:
    vm_uuid: str
    name: str
    tags: tuple[str, ...]
    points: tuple[ReplicaPoint, ...]


def make_plan(
    plan: Plan,
    seen: Look,
    *,
    now_s: float,
    job_names: Mapping[str, str],
    until_s: float | None = None,
    running: Collection[str] = (),
) -> Planning:
    """``until_s``: restore points of later moments are not used. ``job_names``: by id. ``running``: VMs (uuids) that
    were failed over already, which need no memory any more."""
    replicated = _replicated(seen, job_names)
    taken: set[str] = set()
    groups = [_group(group, plan, seen, replicated, taken, now_s=now_s, until_s=until_s) for group in plan.groups]
    vms = [vm for group in groups for vm in group.vms if vm.point and vm.vm_uuid not in running]
    problems: list[str] = []
    left_out = unplaced([vm.memory_bytes for vm in vms], seen.free_bytes.values())
    needed, free = sum(vm.memory_bytes for vm in vms), sum(seen.free_bytes.values())
    if left_out:
        problems.append(
            f"memory: {left_out} of {len(vms)} VMs find no host: {_mib(needed)} needed, {_mib(free)} free on "
            f"{len(seen.free_bytes)} hosts (at most {_mib(max(seen.free_bytes.values(), default=0))} on one)"
        )
    warnings = [f"pool {pool} does not answer: {why}" for pool, why in sorted(seen.silent.items())]
    if plan.test_network is not None:
        try:
            named("network", plan.test_network, seen.site.networks)
        except UsageError as error:
            warnings.append(f"test_network (without it no test): {error}")
    return Planning(
        name=plan.name,
        groups=tuple(groups),
        memory_needed_bytes=needed,
        memory_free_bytes=free,
        fitting=sum(vm.point is not None for group in groups for vm in group.vms) - left_out,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def matches(rule: VmRule, *, uuid: str, name: str, tags: Collection[str]) -> bool:
    """Whether every key of the rule fits; ``name`` is a shell pattern."""
    fits = rule.uuid in ("", uuid) and (not rule.name or fnmatchcase(name, rule.name))
    return fits and (not rule.tag or rule.tag in tags)


def unplaced(needs: Collection[int], hosts: Collection[int]) -> int:
    """How many VMs (bytes of memory) find no host when the largest are placed first."""
    free, found = sorted(hosts, reverse=True), 0
    for need in sorted(needs, reverse=True):
        place = next((index for index, room in enumerate(free) if room >= need), None)
        if place is None:
            found += 1
        else:
            free[place] -= need
    return found


def original_name(point: ReplicaPoint, job_names: Mapping[str, str]) -> str:
    """What the VM of a restore point is called, read from the restore point's name (``VM - JOB TIME``)."""
    text, _, _ = point.name.rpartition(" ")
    text = text.removesuffix(" -")  # full replication: ``VM - JOB - (TIME)``
    job = job_names.get(point.job_id, "")
    if job and text.endswith(f" - {job}"):
        return text.removesuffix(f" - {job}")
    return text.rpartition(" - ")[0] or point.name


def _replicated(seen: Look, job_names: Mapping[str, str]) -> list[_Replicated]:
    points = find_points(seen.records, srs=seen.site.sr_uuids)
    points += find_points(seen.records, srs=seen.site.sr_uuids, whole=True)
    by_vm: dict[str, list[ReplicaPoint]] = {}
    for point in sorted(points, key=lambda one: (one.timestamp_ms, one.uuid), reverse=True):
        by_vm.setdefault(point.vm_uuid, []).append(point)
    found: list[_Replicated] = []
    for uuid, ones in by_vm.items():
        known = seen.originals.get(uuid)
        tags = seen.records["VM"][ones[0].ref].get("tags") or ()
        name = known.name if known else original_name(ones[0], job_names)
        own = tuple(tag for tag in (*tags, *(known.tags if known else ())) if tag not in OURS)
        found.append(_Replicated(vm_uuid=uuid, name=name, tags=own, points=tuple(ones)))
    return sorted(found, key=lambda one: (one.name, one.vm_uuid))


def _group(
    group: Group,
    plan: Plan,
    seen: Look,
    replicated: Sequence[_Replicated],
    taken: set[str],
    *,
    now_s: float,
    until_s: float | None,
) -> PlannedGroup:
    """A VM belongs to the first group that means it."""
    vms: list[PlannedVm] = []
    problems: list[str] = []
    for rule in group.vms:
        of = [one for one in replicated if matches(rule, uuid=one.vm_uuid, name=one.name, tags=one.tags)]
        known = {one.vm_uuid for one in replicated}
        bare = [
            one
            for one in seen.originals.values()
            if one.uuid not in known
            and one.pool != plan.target.pool.name
            and matches(rule, uuid=one.uuid, name=one.name, tags=one.tags)
        ]
        if not of and not bare:
            problems.append(f"no VM with a replica at target {plan.target.name} matches {told(rule)}")
        for one in of:
            if one.vm_uuid not in taken:
                vms.append(_vm(one, plan, seen, now_s=now_s, until_s=until_s))
                taken.add(one.vm_uuid)
        for original in bare:
            if original.uuid not in taken:
                vms.append(_without(original, plan))
                taken.add(original.uuid)
    return PlannedGroup(group=group, vms=tuple(vms), problems=tuple(problems))


def _without(vm: Original, plan: Plan) -> PlannedVm:
    return PlannedVm(
        vm_uuid=vm.uuid,
        name=vm.name,
        point=None,
        age_s=0.0,
        memory_bytes=0,
        networks=(),
        original=vm.power_state,
        original_pool=vm.pool,
        problems=(f"it has no replica at target {plan.target.name}: no job replicates it there, or none has yet",),
    )


def _vm(one: _Replicated, plan: Plan, seen: Look, *, now_s: float, until_s: float | None) -> PlannedVm:
    early = [point for point in one.points if until_s is None or point.timestamp_ms <= until_s * 1000]
    point = next((point for point in early if point.usable), None)
    problems: list[str] = []
    warnings: list[str] = []
    if point is None:
        oldest = one.points[-1].id
        problems.append(
            "its restore points' data are missing" if early else f"its oldest restore point is of {oldest}, later"
        )
    elif point is not early[0]:
        warnings.append(f"data of its newest restore point {early[0].id} are missing")
    age_s = max(0.0, now_s - point.timestamp_ms / 1000) if point else 0.0
    if point and until_s is None and plan.rpo_s is not None and age_s > plan.rpo_s:
        warnings.append(f"its restore point is {age_s:.0f} s old, the plan's rpo is {plan.rpo_s:.0f} s")
    vm = seen.records["VM"][point.ref] if point else {}
    networks, gone = _networks(vm, seen)
    problems += gone
    original = seen.originals.get(one.vm_uuid)
    if original is not None and point is not None:
        _, left_out = nics(original.nics, plan.target, seen.site.offer)
        warnings += left_out
    return PlannedVm(
        vm_uuid=one.vm_uuid,
        name=one.name,
        point=point,
        age_s=age_s,
        memory_bytes=int(vm.get("memory_dynamic_max") or vm.get("memory_static_max") or 0),
        networks=tuple(networks),
        original=original.power_state if original else UNKNOWN,
        original_pool=original.pool if original else "",
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _networks(vm: Mapping[str, Any], seen: Look) -> tuple[list[str], list[str]]:
    """The networks of its NICs; and those that are not there any more, as sentences."""
    found: list[str] = []
    gone: list[str] = []
    vifs = [seen.records["VIF"][ref] for ref in vm.get("VIFs") or () if ref in seen.records["VIF"]]
    for vif in sorted(vifs, key=lambda one: (len(str(one.get("device"))), str(one.get("device")))):
        network = seen.site.networks.get(str(vif.get("network")))
        if network is None:
            gone.append(f"NIC {vif.get('device')}: the network it was mapped to is not in that pool any more")
        else:
            found.append(str(network.get("name_label") or network.get("uuid")))
    return found, gone


def _mib(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB"
