"""Mirror backups: jobs that copy from remote to remote."""

from __future__ import annotations

from typing import Any

from xobackup.config.from_xo.records import XoSchedule
from xobackup.config.from_xo.remarks import plain
from xobackup.config.from_xo.sections import problems_of
from xobackup.config.from_xo.settings import Draft, translate_settings
from xobackup.config.from_xo.targets import is_path_id
from xobackup.config.from_xo.work import Refused, Work
from xobackup.config.mirrors import MirrorSection

_KEYS = frozenset({"retention", "keep"})
"""Of those that settings become, the ones such a job has."""


def translate_mirror_job(work: Work) -> None:
    """A section for every schedule. Raises :class:`~.work.Refused`."""
    work.begin()
    source = work.job.raw.get("sourceRemote")
    if not isinstance(source, str) or source not in work.site.remotes:
        raise Refused("the remote that it reads from could not be translated")
    remotes = work.remotes()
    if not remotes:
        raise Refused("none of its remotes could be translated")
    vms = _vms(work.job.raw.get("filter"))
    work.note("it copies full and delta backups alike, and all that the remotes lack, not only what is newest")
    for schedule in work.schedules:
        _one(work, schedule, work.site.remotes[source], remotes, vms)


def _one(work: Work, schedule: XoSchedule, source: str, remotes: list[str], vms: list[str]) -> None:
    draft = Draft(mode="mirror", given=work.given(schedule))
    translate_settings(draft)
    work.drafts.append((schedule, draft))
    values: dict[str, Any] = {"mode": "mirror", "id": work.job.id, "schedule_id": schedule.id}
    values |= {"source": source, "remotes": remotes}
    if vms:
        values["vms"] = vms
    values |= {key: value for key, value in draft.values.items() if key in _KEYS}
    if problems := [*draft.refused, *problems_of(MirrorSection, values)]:
        work.refuse(schedule, problems)
    else:
        work.add(schedule, values, draft)


def _vms(filter: object) -> list[str]:
    """Uuids of the VMs that a filter means; none is all. Raises :class:`Refused` for one that says anything else."""
    if not filter:
        return []
    if isinstance(filter, dict) and set(filter) == {"vm"} and isinstance(filter["vm"], dict):
        wanted = filter["vm"].get("uuid")
        several = wanted.get("__or") if isinstance(wanted, dict) and set(wanted) == {"__or"} else [wanted]
        if set(filter["vm"]) == {"uuid"} and isinstance(several, list) and several:
            uuids = [one for one in several if isinstance(one, str) and is_path_id(one)]
            if len(uuids) == len(several):
                return uuids
    raise Refused(f"its filter is no choice of VMs by uuid: {plain(str(filter), most=80)}")
