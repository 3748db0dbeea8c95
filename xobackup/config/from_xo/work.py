"""One job of Xen Orchestra's being translated: what both kinds of jobs have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xobackup.config.from_xo.naming import Names, joined, slug
from xobackup.config.from_xo.placing import Map
from xobackup.config.from_xo.records import XoJob, XoSchedule
from xobackup.config.from_xo.remarks import Level, Remark, plain, quoted
from xobackup.config.from_xo.sections import Section
from xobackup.config.from_xo.settings import Draft
from xobackup.config.from_xo.targets import ids_of, is_path_id

_CRON = re.compile(r"[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}")
_KNOWN = frozenset(
    {"id", "name", "type", "mode", "compression", "vms", "remotes", "srs", "proxy", "settings", "userId", "runId"}
    | {"key", "pools", "xoMetadata", "sourceRemote", "filter"}
)


class Refused(Exception):
    """Why a job is not translated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What jobs refer to."""

    known: Map
    remotes: Mapping[str, str]
    """Our names by Xen Orchestra's ids."""
    remote_names: Mapping[str, str]
    """Xen Orchestra's names of all of its remotes, by id."""
    with_disabled: bool
    sequenced: frozenset[str] = frozenset()
    """Schedules that a sequence runs, whether they are enabled or not."""


@dataclass(slots=True, kw_only=True)
class Work:
    """A job, its sections so far, and what was said about it."""

    job: XoJob
    schedules: Sequence[XoSchedule]
    site: Site
    names: Names
    told: list[tuple[Level, str]] = field(default_factory=list)
    """Of the job, whatever the schedule."""
    drafts: list[tuple[XoSchedule, Draft]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    @property
    def about(self) -> str:
        return f"job {quoted(self.job.name)}"

    def about_schedule(self, schedule: XoSchedule) -> str:
        if len(self.schedules) == 1 and not schedule.name:
            return self.about
        return f"{self.about}, schedule {quoted(schedule.name or schedule.id)}"

    def differs(self, text: str) -> None:
        self.told.append((Level.DIFFERS, text))

    def note(self, text: str) -> None:
        self.told.append((Level.NOTE, text))

    def given(self, schedule: XoSchedule) -> dict[str, Any]:
        """The settings that hold for a schedule; its own win."""
        return {**self.job.settings.get("", {}), **self.job.settings.get(schedule.id, {})}

    def begin(self) -> None:
        """What is wrong with, or to be said about, any job."""
        if not self.schedules:
            raise Refused("it has no schedule, so Xen Orchestra never runs it and keeps nothing of it")
        for schedule in self.schedules:
            if not is_path_id(schedule.id):
                raise Refused(f"the id of its schedule, {plain(schedule.id, most=60)!r}, is no uuid")
        if self.job.raw.get("proxy"):
            self.differs("proxy: xobackup works from this machine, which must reach pool and remotes itself")
        for key in sorted(set(self.job.raw) - _KNOWN):
            self.differs(f"{plain(key, most=60)}: a part of a job that is not known here")

    def remotes(self) -> list[str]:
        """Our names of its remotes; those that are not translated are told."""
        wanted = ids_of(self.job.raw.get("remotes"))
        if wanted is None:
            raise Refused("remotes: expected ids")
        for one in wanted:
            if one not in self.site.remotes:
                name = self.site.remote_names.get(one)
                what = f"a remote that is not there ({plain(one, most=60)})"
                what = what if name is None else f"remote {quoted(name)}"
                self.differs(f"{what}: not translated, nothing is written there")
        return [self.site.remotes[one] for one in wanted if one in self.site.remotes]

    def add(self, schedule: XoSchedule, values: dict[str, Any], draft: Draft, *, pool: str = "") -> None:
        """One section. ``pool`` is a part of its name when there are several."""
        schedule_part = slug(schedule.name, otherwise=schedule.id[:8]) if len(self.schedules) > 1 else ""
        name = joined(slug(self.job.name, otherwise=f"job-{self.job.id[:8]}"), schedule_part, pool)
        name = self.names.unique(name)
        about = self.about_schedule(schedule)
        active = schedule.enabled or self.site.with_disabled or schedule.id in self.site.sequenced
        comments = [f"Xen Orchestra: {about}", f"ran at: {when(schedule)}"]
        if schedule.enabled and _CRON.fullmatch(schedule.cron):
            comments.append(f"in /etc/cron.d:  {schedule.cron}  root  xobackup run {name}")
        elif schedule.id in self.site.sequenced:
            comments.append("disabled itself, but a sequence runs it")
        if not active:
            comments.append("disabled in Xen Orchestra, so it is a comment here")
            text = f"disabled: {name} is written as a comment (--with-disabled: as a job)"
            self.remarks.append(Remark(level=Level.NOTE, about=about, text=text))
        told = dict.fromkeys([*self.told, *draft.told])
        comments += [f"differs: {text}" for level, text in told if level is Level.DIFFERS]
        section = Section(kind="jobs", name=name, values=values, comments=tuple(comments), active=active)
        self.sections.append(section)

    def refuse(self, schedule: XoSchedule, reasons: Sequence[str]) -> None:
        """A schedule that gets no section."""
        text = "; ".join(dict.fromkeys(reasons))
        remark = Remark(level=Level.REFUSED, about=self.about_schedule(schedule), text=text)
        if remark not in self.remarks:
            self.remarks.append(remark)

    def all_remarks(self) -> list[Remark]:
        """What its schedules have in common is said once, about the job."""
        each = [dict.fromkeys(draft.told) for _, draft in self.drafts]
        common = [one for one in each[0] if all(one in told for told in each)] if each else []
        found = [
            Remark(level=level, about=self.about, text=text) for level, text in dict.fromkeys([*self.told, *common])
        ]
        for (schedule, _), told in zip(self.drafts, each, strict=True):
            where = self.about_schedule(schedule)
            found += [Remark(level=one[0], about=where, text=one[1]) for one in told if one not in common]
        return found + self.remarks


def when(schedule: XoSchedule) -> str:
    """When a schedule ran, for a reader."""
    zone = f", {schedule.timezone}" if schedule.timezone else ", in the time zone of Xen Orchestra's machine"
    return plain(f'cron "{schedule.cron}"{zone}')
