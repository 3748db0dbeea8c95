"""The whole translation: records in; sections, remarks, and secrets to be put in their place out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from xobackup.config.from_xo.credentials import Keeping, Missing, Safe, SecretFile
from xobackup.config.from_xo.errors import BadExport
from xobackup.config.from_xo.jobs import translate_job
from xobackup.config.from_xo.naming import Names
from xobackup.config.from_xo.placing import Map
from xobackup.config.from_xo.records import Records, XoJob, XoSchedule
from xobackup.config.from_xo.remarks import Level, Remark, plain, quoted
from xobackup.config.from_xo.remotes import translate_remotes
from xobackup.config.from_xo.sections import Section
from xobackup.config.from_xo.servers import Pool, translate_servers
from xobackup.config.from_xo.toml import write_toml
from xobackup.config.from_xo.work import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator asks for. ``secrets_directory`` is where files of secrets go."""

    keeping: Keeping = Keeping.ENV
    secrets_directory: PurePath | None = None
    with_disabled: bool = False
    said: Mapping[str, str] = field(default_factory=dict)
    """The server (its label, host or name here) by the uuid of a pool or a VM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything there is to write and to say."""

    toml: str = field(repr=False)
    remarks: tuple[Remark, ...]
    files: tuple[SecretFile, ...]
    missing: tuple[Missing, ...]
    jobs: tuple[str, ...]
    """Names of those that are written as jobs."""
    refused: int

    def of(self, level: Level) -> list[Remark]:
        return [remark for remark in self.remarks if remark.level is level]


def translate(records: Records, source: str, wishes: Wishes) -> Plan:
    """Translate ``records``; ``source`` names them in the file. Raises :class:`BadExport`."""
    remarks = list(records.remarks)
    pools, places, told = translate_servers(records.servers, with_disabled=wishes.with_disabled)
    remarks += told
    remotes = translate_remotes(records.remotes, with_disabled=wishes.with_disabled)
    remarks += remotes.remarks
    by_job = _schedules_by_job(records, remarks)
    sequences = [job for job in records.jobs if _is_sequence(job) and _runs(by_job.get(job.id, []))]
    scheduled = {schedule.id for schedule in records.schedules}
    site = Site(
        known=Map(pools=tuple(places), vms=records.vms, said=_said(wishes.said, places, source)),
        remotes=remotes.names,
        remote_names={remote.id: remote.name for remote in records.remotes},
        with_disabled=wishes.with_disabled,
        sequenced=frozenset(one for job in sequences for one in _ids_in(job.raw, scheduled)),
    )
    jobs = _translate_jobs(records, by_job, site, remarks)
    remarks += _told_of_sequences(sequences, by_job, jobs, scheduled)
    return _plan([*pools, *remotes.sections, *jobs], remarks, remotes.mount_credentials, source, wishes)


def _translate_jobs(
    records: Records, by_job: Mapping[str, list[XoSchedule]], site: Site, remarks: list[Remark]
) -> list[Section]:
    names, seen = Names(), set[str]()
    sections: list[Section] = []
    for job in records.jobs:
        about = f"job {quoted(job.name)}"
        if job.id in seen:
            remarks.append(Remark(level=Level.REFUSED, about=about, text="its id is that of another job"))
            continue
        seen.add(job.id)
        if _is_sequence(job):
            continue
        made, told = translate_job(job, by_job.get(job.id, []), site, names)
        sections += made
        remarks += told
    return sections


def _plan(
    sections: list[Section], remarks: list[Remark], mounts: Mapping[str, str], source: str, wishes: Wishes
) -> Plan:
    safe = Safe(wishes.keeping, wishes.secrets_directory)
    settled = [
        replace(section, values=safe.settle(section.values, section.key)) if section.kind != "jobs" else section
        for section in sections
    ]
    for name, content in mounts.items():
        if path := safe.file(f"remotes.{name}.mount", content):
            text = f"for the mount: -o credentials={path}"
            remarks.append(Remark(level=Level.NOTE, about=f"remotes.{name}", text=text))
    refused = [remark for remark in remarks if remark.level is Level.REFUSED]
    return Plan(
        toml=write_toml(_head(source, safe.missing, remarks), settled),
        remarks=tuple(remarks),
        files=tuple(safe.files),
        missing=tuple(safe.missing),
        jobs=tuple(section.name for section in sections if section.kind == "jobs" and section.active),
        refused=len(refused),
    )


def _head(source: str, missing: list[Missing], remarks: list[Remark]) -> list[str]:
    lines = [
        f"From Xen Orchestra: {source}. Made by xobackup import-from-xo; see docs/from-xen-orchestra.md.",
        "Ids of jobs and schedules are Xen Orchestra's: by them chains go on as deltas and retention counts.",
    ]
    if missing:
        lines += ["", "To be filled in:", *(f"  {one.key}: {one.where}" for one in missing)]
    for level, title in (
        (Level.REFUSED, "Not translated:"),
        (Level.DIFFERS, "Not as it was:"),
        (Level.NOTE, "Notes:"),
    ):
        found = [f"  {one.about}: {one.text}" for one in remarks if one.level is level]
        if found:
            lines += ["", title, *found]
    return lines


def _schedules_by_job(records: Records, remarks: list[Remark]) -> dict[str, list[XoSchedule]]:
    jobs = {job.id for job in records.jobs}
    found: dict[str, list[XoSchedule]] = {}
    seen: set[str] = set()
    for schedule in records.schedules:
        about = f"schedule {quoted(schedule.name or schedule.id)}"
        if schedule.id in seen:
            remarks.append(Remark(level=Level.REFUSED, about=about, text="its id is that of another schedule"))
        elif schedule.job_id not in jobs:
            text = f"left out, there is no job {plain(schedule.job_id, most=60) or '(none)'}"
            remarks.append(Remark(level=Level.NOTE, about=about, text=text))
        else:
            found.setdefault(schedule.job_id, []).append(schedule)
        seen.add(schedule.id)
    return found


def _said(said: Mapping[str, str], pools: list[Pool], source: str) -> dict[str, str]:
    """What the operator said, with our names of pools."""
    found: dict[str, str] = {}
    for uuid, server in said.items():
        names = [pool.name for pool in pools if server in (pool.name, pool.label, pool.host)]
        if len(names) != 1:
            known = ", ".join(pool.name for pool in pools) or "none"
            raise BadExport(source, f"--pool {plain(uuid)}: no single server is {plain(server)!r} (known: {known})")
        found[uuid] = names[0]
    return found


def _is_sequence(job: XoJob) -> bool:
    return job.type == "call" and job.raw.get("method") == "schedule.runSequence"


def _runs(schedules: list[XoSchedule]) -> bool:
    return any(schedule.enabled for schedule in schedules)


def _ids_in(value: Any, known: set[str]) -> list[str]:
    """Ids of ``known`` anywhere in ``value``, in their order."""
    if isinstance(value, str):
        return [value] if value in known else []
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for member in members for found in _ids_in(member, known)]


def _told_of_sequences(
    sequences: list[XoJob], by_job: Mapping[str, list[XoSchedule]], jobs: list[Section], known: set[str]
) -> list[Remark]:
    names: dict[str, list[str]] = {}
    for section in jobs:
        names.setdefault(section.values["schedule_id"], []).append(section.name)
    found: list[Remark] = []
    for job in sequences:
        called = [name for one in _ids_in(job.raw, known) for name in names.get(one, [])]
        times = ", ".join(f'"{plain(one.cron, most=60)}" ({plain(one.timezone)})' for one in by_job[job.id])
        text = f"a sequence, run at {times}; here: xobackup run {' '.join(called) or '(nothing of it is translated)'}"
        found.append(Remark(level=Level.NOTE, about=f"job {quoted(job.name)}", text=text))
    return found
