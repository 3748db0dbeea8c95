"""Jobs that back up VMs: one of ours for every schedule and every pool."""

from __future__ import annotations

from typing import Any

from xobackup.config.from_xo.patterns import Always, Inexpressible, Rule, parse_pattern, rules_of
from xobackup.config.from_xo.placing import place
from xobackup.config.from_xo.records import XoSchedule
from xobackup.config.from_xo.remarks import plain
from xobackup.config.from_xo.sections import COMMENT, problems_of
from xobackup.config.from_xo.settings import Draft, translate_settings
from xobackup.config.from_xo.targets import ids_of, own_settings
from xobackup.config.from_xo.work import Refused, Site, Work
from xobackup.config.jobs import JobSection

_COMPRESSIONS = {"": "none", "native": "gzip", "zstd": "zstd"}
Chosen = dict[str, tuple[list[Rule], list[Rule]]]
"""By pool: what is included, what is left out of that."""


def translate_vm_job(work: Work) -> None:
    """A section for every schedule that keeps backups, and every pool. Raises :class:`~.work.Refused`."""
    work.begin()
    mode = work.job.raw.get("mode")
    if mode not in ("full", "delta"):
        raise Refused(f'mode: expected "full" or "delta", found {plain(mode, most=40)!r}')
    remotes = work.remotes()
    if not remotes and (reason := _goes_nowhere(work)):
        raise Refused(reason)
    if ids_of(work.job.raw.get("srs")) != []:
        work.differs("srs: replication is not supported yet, only its backups are translated")
    chosen = _chosen(work)
    refused = _own_settings(work)
    fixed: dict[str, Any] = {"mode": mode} | _compression(work, mode)
    for schedule in work.schedules:
        draft = _draft(work, schedule, mode, remotes=len(remotes))
        if refused or draft.refused:
            work.refuse(schedule, [*refused, *draft.refused])
            continue
        for pool, (include, exclude) in chosen.items():
            vms = {"include": _shown(include, work.site)}
            if exclude:
                vms["exclude"] = _shown(exclude, work.site)
            values: dict[str, Any] = {"id": work.job.id, "schedule_id": schedule.id, "pool": pool}
            values |= ({"remotes": remotes} if "retention" in draft.values else {}) | {"vms": vms}
            values |= fixed | draft.values
            if problems := problems_of(JobSection, values):
                work.refuse(schedule, problems)
            else:
                work.add(schedule, values, draft, pool=pool if len(chosen) > 1 else "")


def _draft(work: Work, schedule: XoSchedule, mode: str, *, remotes: int) -> Draft:
    draft = Draft(mode=mode, given=work.given(schedule))
    translate_settings(draft)
    if not remotes or "retention" not in draft.values:
        _without_remotes(work, draft)
        remotes = 0
    if remotes < 2 and draft.values.pop("distribute", False):
        draft.note("distributeBackups: there is no choice between remotes")
    work.drafts.append((schedule, draft))
    return draft


def _without_remotes(work: Work, draft: Draft) -> None:
    """Such a schedule can still keep snapshots on the pool."""
    draft.values.pop("retention", None)
    if draft.values.pop("health_check", None) is not None:
        draft.differs("healthCheckSr: nothing is written to a remote, so there is nothing to restore and check")
    if not draft.values.get("snapshot_retention"):
        draft.refused.append("neither exportRetention nor snapshotRetention is set: it keeps nothing")
    elif ids_of(work.job.raw.get("remotes")):
        draft.note("exportRetention is 0: only snapshots on the pool are kept")


def _chosen(work: Work) -> Chosen:
    try:
        placed = place(parse_pattern(work.job.raw.get("vms")), work.site.known)
        rules = {pool: rules_of(formula) for pool, formula in placed.formulas.items() if formula != Always(False)}
    except Inexpressible as error:
        raise Refused(str(error)) from None
    for one in placed.gone:
        work.differs(f"vms: {one} is on none of the servers that are translated")
    chosen = {pool: found for pool, found in rules.items() if found[0]}
    if not chosen:
        gone = f" ({', '.join(placed.gone[:5])} not found)" if placed.gone else ""
        raise Refused(f"vms: no VM can fit{gone}" if work.site.known.pools else "there is no pool to read from")
    return chosen


def _own_settings(work: Work) -> list[str]:
    told, refused = own_settings(
        work.job,
        schedules={schedule.id for schedule in work.schedules},
        remotes=set(ids_of(work.job.raw.get("remotes")) or ()),
        vms={*(ids_of(work.job.raw.get("vms")) or ()), *(work.site.known.vms or ())},
        names=work.site.remote_names,
    )
    work.told += told
    return refused


def _goes_nowhere(work: Work) -> str:
    """Why a job without a remote of ours does nothing; empty when it keeps snapshots on the pool."""
    if ids_of(work.job.raw.get("remotes")):
        return "none of its remotes could be translated"
    if ids_of(work.job.raw.get("srs")) != []:
        return "replication is not supported yet"
    if any(work.given(schedule).get("snapshotRetention") for schedule in work.schedules):
        return ""
    return "it has no remote to write to"


def _compression(work: Work, mode: str) -> dict[str, Any]:
    value = work.job.raw.get("compression") or ""
    if mode != "full":
        if value:
            work.note("compression: means nothing for deltas")
        return {}
    if isinstance(value, str) and value in _COMPRESSIONS:
        return {"compression": _COMPRESSIONS[value]}
    work.differs(f"compression = {plain(value, most=40)}: not known, zstd here")
    return {"compression": "zstd"}


def _shown(rules: list[Rule], site: Site) -> list[dict[str, str]]:
    """With the names of VMs that are chosen by uuid, as far as they are known."""
    found: list[dict[str, str]] = []
    for rule in rules:
        known = (site.known.vms or {}).get(rule.get("uuid", ""))
        found.append({**rule, COMMENT: known.name} if known is not None and known.name else {**rule})
    return found
