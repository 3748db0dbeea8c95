"""Which replicas there are at a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.clock import Clock
    from xobackup.config.model import Configuration
    from xobackup.engine.job import SrTarget
    from xobackup.engine.replication.listing import ListedReplica


def replicas_at(target: SrTarget, clock: Clock) -> list[ListedReplica]:
    """Asked of its pool alone. Raises from the ``XapiError`` and ``EngineError`` trees."""
    from xobackup.engine.replication.listing import list_replicas
    from xobackup.engine.replication.site import open_site
    from xobackup.xapi.session import Session

    with Session.connect(target.pool.address, clock=clock) as session:
        return list_replicas(open_site(target, session, ""), now_s=clock.now_s())


def job_names(configuration: Configuration) -> dict[str, str]:
    """Names of jobs by their ids."""
    from xobackup.engine.job import job_id_of

    return {str(job.id or job_id_of(name)): name for name, job in configuration.jobs.items()}
