"""What all VMs of one pool share in a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xobackup.engine.fulls import FullsLimit
from xobackup.engine.job import Job
from xobackup.engine.placing.given import Given
from xobackup.engine.reading.means import Means
from xobackup.engine.world import World

if TYPE_CHECKING:
    from xobackup.engine.replication.site import ReplicaSite
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """``repositories``: those that could be opened, by the remote's name."""

    world: World
    job: Job
    run_id: str
    session: Session
    pool: str
    pool_uuid: str
    repositories: Mapping[str, Repository]
    sites: Mapping[str, ReplicaSite] = field(default_factory=dict)
    """Targets for replicas that could be opened, by name."""
    means: Means = field(default_factory=Means)
    fulls: FullsLimit = field(default_factory=lambda: FullsLimit(None))
    """Shared by all pools of the run."""
    given: Given = field(default_factory=Given)
    """What VMs were given of the remotes; shared by all pools of the run."""
    unopened: Mapping[str, str] = field(default_factory=dict)
    """Remotes of the job that could not be opened, and why."""
