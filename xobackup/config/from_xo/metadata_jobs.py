"""Jobs that back up the databases of pools."""

from __future__ import annotations

from typing import Any

from xobackup.config.from_xo.patterns import Inexpressible
from xobackup.config.from_xo.records import XoSchedule
from xobackup.config.from_xo.remarks import plain
from xobackup.config.from_xo.sections import problems_of
from xobackup.config.from_xo.settings import Draft, count_of, translate_settings
from xobackup.config.from_xo.targets import ids_of
from xobackup.config.from_xo.work import Refused, Work
from xobackup.config.jobs import MetadataSection

_KEYS = frozenset({"retries", "rate_limit_mib_s"})
"""Of those that settings become, the ones such a job has."""


def translate_metadata_job(work: Work) -> None:
    """A section for every schedule that keeps backups of pools. Raises :class:`~.work.Refused`."""
    work.begin()
    if work.job.raw.get("xoMetadata"):
        work.note("xoMetadata: Xen Orchestra's own configuration is not backed up; ours is a file")
    pools = _pools(work)
    if pools is None:
        work.note("left out, it backs up Xen Orchestra's own configuration only")
        return
    remotes = work.remotes()
    if not pools or not remotes:
        raise Refused("none of its pools is there" if not pools else "none of its remotes could be translated")
    for schedule in work.schedules:
        _one(work, schedule, pools, remotes)


def _one(work: Work, schedule: XoSchedule, pools: list[str], remotes: list[str]) -> None:
    given = work.given(schedule)
    kept = given.pop("retentionPoolMetadata", 0)
    given.pop("retentionXoMetadata", None)  # told with xoMetadata
    draft = Draft(mode="metadata", given=given)
    translate_settings(draft)
    work.drafts.append((schedule, draft))
    retention = count_of(draft, "retentionPoolMetadata", kept, 1, 100_000) if kept else None
    if retention is None:
        work.refuse(schedule, ["retentionPoolMetadata is not set: it keeps no backups"])
        return
    values: dict[str, Any] = {"mode": "metadata", "id": work.job.id, "schedule_id": schedule.id}
    values |= {"pools": pools, "remotes": remotes, "retention": retention}
    values |= {key: value for key, value in draft.values.items() if key in _KEYS}
    if problems := problems_of(MetadataSection, values):
        work.refuse(schedule, problems)
    else:
        work.add(schedule, values, draft)


def _pools(work: Work) -> list[str] | None:
    """Our names of its pools; ``None`` when it names none."""
    wanted = ids_of(work.job.raw.get("pools"))
    if wanted is None:
        raise Refused("pools: expected ids")
    if not wanted:
        return None
    found: dict[str, None] = {}
    for one in wanted:
        try:
            pool = work.site.known.owner(one)
        except Inexpressible as error:
            raise Refused(str(error)) from None
        if pool is None:
            work.differs(f"pool {plain(one, most=60)} is none of the servers that are translated")
        else:
            found[pool] = None
    return list(found)
