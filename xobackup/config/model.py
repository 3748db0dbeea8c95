"""The shape of the configuration file. README shows an example.

A configuration names pools, remotes and jobs; a job says which VMs of which pool go to which remotes, and how many
restore points of each are kept. Unknown keys are refused: a typing mistake must not become a default.
"""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from xobackup.config.dr import DrSection
from xobackup.config.engine import EngineSection
from xobackup.config.history import HistorySection
from xobackup.config.jobs import JobSection, MetadataSection
from xobackup.config.limits import LimitsSection
from xobackup.config.links import LinkSection, doubled
from xobackup.config.logs import LogSection
from xobackup.config.mirrors import MirrorSection
from xobackup.config.notify import NotifySection
from xobackup.config.own import SelfSection
from xobackup.config.places import PoolSection, RemoteSection
from xobackup.config.schedules import ScheduleSection, ServiceSection
from xobackup.config.section import Section
from xobackup.config.targets import TargetSection
from xobackup.config.web import WebSection

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Configuration(Section):
    """The whole of it."""

    state_directory: Path = Path("/var/lib/xobackup")
    limits: LimitsSection = LimitsSection()
    """Of everything that one process does."""
    links: dict[str, LinkSection] = Field(default_factory=dict)
    """Lines between sites."""
    pools: dict[str, PoolSection] = Field(default_factory=dict)
    remotes: dict[str, RemoteSection] = Field(default_factory=dict)
    targets: dict[str, TargetSection] = Field(default_factory=dict)
    """SRs that keep replicas."""
    dr: dict[str, DrSection] = Field(default_factory=dict)
    """Plans for the day when a pool is lost."""
    jobs: dict[str, JobSection] = Field(default_factory=dict)
    """Those that back up VMs."""
    schedules: dict[str, ScheduleSection] = Field(default_factory=dict)
    """When jobs run."""
    service: ServiceSection = ServiceSection()
    """Of what runs them."""
    log: LogSection = LogSection()
    """What it says of it."""
    history: HistorySection = HistorySection()
    """What happened, for years."""
    engine: EngineSection = EngineSection()
    """Workers next to the pools."""
    notify: dict[str, NotifySection] = Field(default_factory=dict)
    """Who is told when something is wrong."""
    own: SelfSection = Field(default=SelfSection(), alias="self")
    """Backups of this configuration and of what is remembered."""
    web: WebSection = WebSection()
    """The status page and the API."""
    metadata_jobs: dict[str, MetadataSection] = Field(default_factory=dict)
    """Those tables of ``jobs`` that say ``mode = "metadata"``. Not a key of the file."""
    mirror_jobs: dict[str, MirrorSection] = Field(default_factory=dict)
    """Those that say ``mode = "mirror"``. Not a key of the file."""

    @model_validator(mode="before")
    @classmethod
    def _sorted_out(cls, value: object) -> object:
        """Every kind of job to its own section."""
        if not isinstance(value, dict) or not isinstance(value.get("jobs"), dict):
            return value
        kinds: dict[str, dict[str, object]] = {"jobs": {}, "metadata_jobs": {}, "mirror_jobs": {}}
        for name, job in value["jobs"].items():
            mode = job.get("mode") if isinstance(job, dict) else None
            kinds[f"{mode}_jobs" if mode in ("metadata", "mirror") else "jobs"][name] = job
        return {**value, **kinds}

    @property
    def job_names(self) -> list[str]:
        """Of those that read pools."""
        return [*self.jobs, *self.metadata_jobs]

    @property
    def all_job_names(self) -> list[str]:
        """Of every kind."""
        return [*self.job_names, *self.mirror_jobs]

    @cached_property
    def names_by_id(self) -> dict[uuids.UUID, list[str]]:
        """Jobs that back up VMs, by the ids that the file gives them; schedules of one job share it."""
        found: dict[uuids.UUID, list[str]] = {}
        for name, job in self.jobs.items():
            if job.id is not None:
                found.setdefault(job.id, []).append(name)
        return found

    @field_validator(
        "links", "pools", "remotes", "targets", "dr", "jobs", "schedules", "notify", "metadata_jobs", "mirror_jobs"
    )
    @classmethod
    def _names(cls, value: dict[str, object]) -> dict[str, object]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r}: expected a name of letters, digits, '.', '_' and '-'")
        return value

    @model_validator(mode="after")
    def _references(self) -> Configuration:
        missing: list[str] = []
        for name, job in self.jobs.items():
            if job.pool not in self.pools:
                missing.append(f"jobs.{name}.pool: there is no pool {job.pool!r} ({_known(self.pools)})")
            missing.extend(
                f"jobs.{name}.remotes: there is no remote {remote!r} ({_known(self.remotes)})"
                for remote in job.remotes
                if remote not in self.remotes
            )
            if job.health_check is not None and job.health_check.pool not in (None, *self.pools):
                told = f"there is no pool {job.health_check.pool!r} ({_known(self.pools)})"
                missing.append(f"jobs.{name}.health_check.pool: {told}")
            missing.extend(
                f"jobs.{name}.replicate_to: there is no target {target!r} ({_known(self.targets)})"
                for target in job.replicate_to
                if target not in self.targets
            )
        for name, target in self.targets.items():
            if target.pool not in self.pools:
                missing.append(f"targets.{name}.pool: there is no pool {target.pool!r} ({_known(self.pools)})")
            if name in self.remotes:
                missing.append(f"targets.{name}: a remote has the same name; reports could not tell them apart")
        missing.extend(
            f"dr.{name}.target: there is no target {plan.target!r} ({_known(self.targets)})"
            for name, plan in self.dr.items()
            if plan.target not in self.targets
        )
        for name, metadata in self.metadata_jobs.items():
            for kind, named, known in (
                ("pool", metadata.pools, self.pools),
                ("remote", metadata.remotes, self.remotes),
            ):
                missing.extend(
                    f"jobs.{name}.{kind}s: there is no {kind} {one!r} (known: {', '.join(sorted(known)) or 'none'})"
                    for one in named
                    if one not in known
                )
        missing.extend(
            f"self.remotes: there is no remote {remote!r} ({_known(self.remotes)})"
            for remote in self.own.remotes
            if remote not in self.remotes
        )
        for name, mirror in self.mirror_jobs.items():
            missing.extend(
                f"jobs.{name}: there is no remote {one!r} ({_known(self.remotes)})"
                for one in (mirror.source, *mirror.remotes)
                if one not in self.remotes
            )
        relay = self.engine.relay
        missing.extend(
            f"engine.relay.remotes: there is no remote {one!r} ({_known(self.remotes)})"
            for one in (() if relay is None else relay.remotes or ())
            if one not in self.remotes
        )
        missing.extend(
            f"engine.relay.pools: there is no pool {one!r} ({_known(self.pools)})"
            for one in (() if relay is None else relay.pools or ())
            if one not in self.pools
        )
        for name, notify in self.notify.items():
            missing.extend(
                f"notify.{name}.jobs: there is no job {job!r} ({_known(dict.fromkeys(self.all_job_names))})"
                for job in notify.jobs
                if job not in self.all_job_names
            )
        missing.extend(_schedule_references(self))
        missing.extend(_same_ids(self))
        missing.extend(doubled(self.links))
        if self.engine.database is not None:
            missing.extend(_apart(self))
        if missing:
            raise ValueError("; ".join(missing))
        return self


def _schedule_references(configuration: Configuration) -> list[str]:
    """Jobs that there are, no schedule that waits for itself."""
    names, schedules = configuration.all_job_names, configuration.schedules
    problems: list[str] = []
    for name, section in schedules.items():
        known = f"known: {', '.join(sorted(names)) or 'none'}"
        problems += [
            f"schedules.{name}.jobs: there is no job {job!r} ({known})" for job in section.jobs if job not in names
        ]
        behind, seen = section.after, {name}
        while behind is not None:
            if behind not in schedules:
                if behind == section.after:
                    others = f"known: {', '.join(sorted(schedules))}"
                    problems.append(f"schedules.{name}.after: there is no schedule {behind!r} ({others})")
                break
            if behind in seen:
                problems.append(f"schedules.{name}.after: it would wait for itself")
                break
            seen.add(behind)
            behind = schedules[behind].after
    return problems


def _same_ids(configuration: Configuration) -> list[str]:
    """Jobs may share an id, as the schedules and pools of one job of Xen Orchestra's do, but then retention must be
    able to tell their backups apart: by the schedule, or by the pool."""
    given = [(name, job.id, (job.schedule_id, job.pool)) for name, job in configuration.jobs.items()]
    given += [(name, job.id, (job.schedule_id, "")) for name, job in configuration.metadata_jobs.items()]
    owners: dict[tuple[uuids.UUID, tuple[uuids.UUID | None, str]], str] = {}
    problems: list[str] = []
    for name, job_id, apart in given:
        if job_id is not None and (other := owners.setdefault((job_id, apart), name)) != name:
            advice = "another schedule of it needs a schedule_id of its own"
            problems.append(f"jobs.{name}.id: the same as that of job {other!r}; {advice}")
    return problems


def _apart(configuration: Configuration) -> list[str]:
    """Jobs of which no worker could reach everything. To pools of targets a relay may lead."""
    problems: list[str] = []
    for name, job in configuration.jobs.items():
        places: dict[str, PoolSection | RemoteSection | None]
        places = {f"pool {job.pool}": configuration.pools.get(job.pool)}
        places |= {f"remote {one}": configuration.remotes.get(one) for one in job.remotes}
        sites = {place: set(one.sites) for place, one in places.items() if one is not None and one.sites}
        if sites and not set.intersection(*sites.values()):
            told = "; ".join(f"{place}: {', '.join(sorted(of))}" for place, of in sites.items())
            problems.append(f"jobs.{name}: no site reaches all it needs ({told})")
    return problems


def _known(names: Mapping[str, object]) -> str:
    return "known: " + (", ".join(sorted(names)) or "none")
