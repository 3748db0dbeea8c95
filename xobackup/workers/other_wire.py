"""Tasks that are neither a VM nor a group, as JSON: a pool's database, and the health checks of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from xobackup.engine.health.request import CheckResult
from xobackup.workers.kinds import CHECKS, POOL


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOrder:
    """The database of one pool, with all attempts."""

    run: str
    job: str
    pool: str
    fingerprint: str
    vm_name: str
    """For whoever shows what is done."""
    kind: str = POOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """What a run has published of a VM; ``points``: by remote or target."""

    uuid: str
    name: str
    pool: str
    points: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksOrder:
    """Check some of what was published, as the worker's own configuration of the job says."""

    run: str
    job: str
    vms_fresh: tuple[Fresh, ...]
    ages_s: dict[str, float]
    """How long ago each VM was checked last, as the control node remembers it."""
    vm_name: str
    kind: str = CHECKS


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksDone:
    """As :func:`xobackup.engine.health.of_job.run_checks` gives it."""

    results: tuple[CheckResult, ...]
    problems: tuple[str, ...]
