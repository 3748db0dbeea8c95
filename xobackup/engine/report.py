"""What a run did, as data for faces: one verdict per VM, one for the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from remotes.faces import Traffic
from xobackup.engine.errors import Outcome
from xobackup.engine.health.request import CheckResult
from xobackup.engine.hooks.hook import HookResult
from xobackup.engine.transferred import Way
from xobackup.engine.turns.chains import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attempt for a VM that did not succeed. ``began_s``: Unix time."""

    number: int
    began_s: float
    duration_s: float
    error: str
    error_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmReport:
    """One VM. ``points``: the restore point published on each remote."""

    uuid: str
    name: str
    pool: str
    outcome: Outcome
    reason: str = ""
    attempts: int = 1
    duration_s: float = 0.0
    read_bytes: int = 0
    points: dict[str, str] = field(default_factory=dict)
    mode: str = "delta"
    """``full``: the whole VM as one archive, of which ``fulls`` counts the disks."""
    taken: str = ""
    """In which way (:class:`xobackup.engine.taking.way.Method`); ``""`` when it did not come to that."""
    downtime_s: float = 0.0
    """How long it was off for its backup."""
    snapshots: int = 0
    """Of the job, that stay on the pool."""
    fulls: int = 0
    deltas: int = 0
    vias: tuple[str, ...] = ()
    """By which ways its disks were read (:mod:`xobackup.engine.reading.ladder`)."""
    ways: tuple[Way, ...] = ()
    """The same per disk, with the reasons."""
    merged_blocks: int = 0
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    hint: str = ""
    retryable: bool = False
    """Trying again makes sense: it failed for a reason that may pass, and nothing was published."""
    tried: tuple[Tried, ...] = ()
    """Every attempt that failed, the last one included."""
    deferred: bool = False
    """Nothing was done yet: it waits for its chains, without a place of its own."""
    chains: tuple[Chain, ...] = ()
    """Those that wait for the storage to coalesce, where the VM waited for them or was refused for them."""
    chains_waited_s: float = 0.0
    locked: bool = False
    hooks: tuple[HookResult, ...] = ()
    """The hooks that were run for it, in order."""
    group: str = ""
    """The consistent group that its restore point belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """The backup of one pool's database. ``points``: what was published on each remote."""

    uuid: str
    name: str
    pool: str
    """What the configuration calls it."""
    outcome: Outcome
    reason: str = ""
    attempts: int = 1
    duration_s: float = 0.0
    size_bytes: int = 0
    points: dict[str, str] = field(default_factory=dict)
    expired: dict[str, list[str]] = field(default_factory=dict)
    hosts: int = 0
    vms: int = 0
    """What the dump names."""
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    hint: str = ""
    locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """A consistent group whose snapshots were taken."""

    id: str
    vms: tuple[str, ...]
    """Uuids."""
    span_s: float
    """From the beginning of the first snapshot to the end of the last."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Names of VMs that should have been in it, and why they are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The run."""

    run_id: str
    job: str
    outcome: Outcome
    vms: tuple[VmReport, ...]
    duration_s: float
    problems: tuple[str, ...] = ()
    """What concerned no single VM: a pool that could not be reached, a remote that could not be opened."""
    pools: tuple[PoolReport, ...] = ()
    """Backups of the pools' own databases."""
    hooks: tuple[HookResult, ...] = ()
    """Those of the run itself."""
    group: GroupReport | None = None
    storage: dict[str, Traffic] = field(default_factory=dict)
    """What was asked of each remote whose requests are counted."""
    checks: tuple[CheckResult, ...] = ()
    """Health checks of what was published."""

    def count(self, outcome: Outcome) -> int:
        outcomes = [*(vm.outcome for vm in self.vms), *(pool.outcome for pool in self.pools)]
        return outcomes.count(outcome)

    @property
    def read_bytes(self) -> int:
        return sum(vm.read_bytes for vm in self.vms)

    def as_data(self) -> dict[str, Any]:
        """JSON data, stable keys."""
        return asdict(self)


def outcome_of(parts: Iterable[VmReport | PoolReport], *, problems: bool, cancelled: bool) -> Outcome:
    """The verdict on a run from those on its VMs and pools."""
    found = list(parts)
    failed = [one for one in found if one.outcome is Outcome.FAILED]
    good = [one for one in found if one.outcome is Outcome.OK]
    if cancelled:
        return Outcome.CANCELLED
    if not failed:
        if problems:
            return Outcome.SOME_FAILED if good else Outcome.FAILED
        return Outcome.OK if good or not found else Outcome.SKIPPED
    if failed and all(one.locked for one in failed) and not good:
        return Outcome.LOCKED
    return Outcome.SOME_FAILED if good else Outcome.FAILED
