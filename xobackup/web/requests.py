"""What one may order besides runs of schedules, as data: each becomes an operation of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from xobackup.service.operations import Lane


def _called(vm: str, name: str) -> str:
    """Names are not unique, uuids tell nothing."""
    return f"{name} ({vm})" if name else vm


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Keep a restore point whatever retention says. ``until``: a day or moment as ISO 8601, ``""`` for ever."""

    kind: ClassVar[str] = "pin"
    lane: ClassVar[Lane] = Lane.LOOK
    remote: str
    vm: str
    point: str
    note: str = ""
    until: str = ""
    vm_name: str = ""
    """For people."""

    @property
    def about(self) -> str:
        until = f" until {self.until}" if self.until else ""
        return f"{self.point} of {_called(self.vm, self.vm_name)} on {self.remote}{until}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpin:
    """Let retention decide again."""

    kind: ClassVar[str] = "unpin"
    lane: ClassVar[Lane] = Lane.LOOK
    remote: str
    vm: str
    point: str
    vm_name: str = ""
    """For people."""

    @property
    def about(self) -> str:
        return f"{self.point} of {_called(self.vm, self.vm_name)} on {self.remote}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Read backups and compare them. ``vm``: ``""`` for all; ``slice``: ``2%`` or ``3/30``, ``""`` for everything."""

    kind: ClassVar[str] = "verify"
    lane: ClassVar[Lane] = Lane.WORK
    remote: str
    vm: str = ""
    point: str = ""
    """A restore point of ``vm``; ``""`` for all."""
    latest: bool = False
    slice: str = ""
    vm_name: str = ""

    @property
    def about(self) -> str:
        which = self.point or ("the latest restore points" if self.latest else "all restore points")
        part = f", slice {self.slice}" if self.slice else ""
        return f"{which} of {_called(self.vm, self.vm_name) or 'all VMs'} on {self.remote}{part}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore as a new VM would do. SRs and networks by uuid or name, ``""``: by rule; ``None``: left out."""

    kind: ClassVar[str] = "restore-plan"
    lane: ClassVar[Lane] = Lane.LOOK
    remote: str
    vm: str
    point: str
    pool: str
    name: str = ""
    sr: str = ""
    disk_srs: Mapping[str, str | None] = field(default_factory=dict)
    networks: Mapping[str, str | None] = field(default_factory=dict)
    new_macs: bool = False
    memory: bool = True
    start: bool = False
    differential: str = "auto"
    check: bool = True
    vm_name: str = ""

    @property
    def about(self) -> str:
        return f"{self.point} of {_called(self.vm, self.vm_name)} from {self.remote} to {self.pool}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Carry out a plan that somebody was shown. ``agreed``: what it said; ``plan``: the operation that made it."""

    kind: ClassVar[str] = "restore"
    lane: ClassVar[Lane] = Lane.WORK
    plan: str
    wanted: RestorePlan
    agreed: Mapping[str, Any]

    @property
    def about(self) -> str:
        return self.wanted.about


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Back up the VMs that failed in a run again."""

    kind: ClassVar[str] = "retry"
    lane: ClassVar[Lane] = Lane.WORK
    run: str
    job: str
    vms: tuple[str, ...]
    schedule: str = ""
    """Whose settings the run had; ``""``: the job's own."""

    @property
    def about(self) -> str:
        by = f" of schedule {self.schedule}" if self.schedule else ""
        vms = f"{len(self.vms)} VM{'' if len(self.vms) == 1 else 's'}"
        return f"{vms} of job {self.job} that failed in run {self.run}{by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a run of a job would do."""

    kind: ClassVar[str] = "plan"
    lane: ClassVar[Lane] = Lane.LOOK
    job: str

    @property
    def about(self) -> str:
        return f"job {self.job}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrPlan:
    """What a failover would do."""

    kind: ClassVar[str] = "dr-plan"
    lane: ClassVar[Lane] = Lane.LOOK
    plan: str

    @property
    def about(self) -> str:
        return f"plan {self.plan}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrTest:
    """Bring up clones of the replicas in the isolated network, measure, remove."""

    kind: ClassVar[str] = "dr-test"
    lane: ClassVar[Lane] = Lane.WORK
    plan: str

    @property
    def about(self) -> str:
        return f"plan {self.plan}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command of the command line (:mod:`xobackup.web.commands`), with values by the names of its parameters."""

    kind: ClassVar[str] = "command"
    name: str
    values: Mapping[str, Any]
    line: str
    """As one would type it."""
    lane: Lane

    @property
    def about(self) -> str:
        return self.line


Wish = Pin | Unpin | Verify | RestorePlan | Restore | Retry | JobPlan | DrPlan | DrTest | CommandLine
KINDS: Mapping[str, type[Wish]] = {
    one.kind: one for one in (Pin, Unpin, Verify, RestorePlan, Restore, Retry, JobPlan, DrPlan, DrTest, CommandLine)
}


def as_asked(wish: Wish) -> dict[str, Any]:
    """As an operation keeps it."""
    return asdict(wish)


def from_asked(kind: str, asked: Mapping[str, Any]) -> Wish:
    """The other way."""
    values = dict(asked)
    if kind == Restore.kind:
        values["wanted"] = RestorePlan(**values["wanted"])
    if kind == Retry.kind:
        values["vms"] = tuple(values["vms"])
    if kind == CommandLine.kind:
        values["lane"] = Lane(values["lane"])
    return KINDS[kind](**values)
