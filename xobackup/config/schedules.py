"""When jobs run, as the file says it: ``[schedules.NAME]``, and ``[service]``, which runs them."""

from __future__ import annotations

import uuid as uuids
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schedules.agenda import Missed, Schedule
from schedules.calendar import Calendar, parse_excluded, timing_of
from schedules.windows import Span, parse_span
from xobackup.config.retention import KeepSection
from xobackup.config.section import Section


class StartWindowSection(BaseModel):
    """``{ from = "20:00", to = "06:00", days = "mon-fri", at_end = "stop" }``"""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    begin: str = Field(alias="from")
    end: str = Field(alias="to")
    days: str = ""
    at_end: Literal["finish", "stop"] = "finish"
    """``stop``: what still runs when it ends is stopped; what was published is kept."""

    @model_validator(mode="after")
    def _parses(self) -> StartWindowSection:
        self.span()
        return self

    def span(self) -> Span:
        return parse_span(begin=self.begin, end=self.end, days=self.days)


class ScheduleSection(Section):
    """When to run jobs: by ``cron``, ``every`` so often, or ``after`` another schedule."""

    jobs: Annotated[tuple[str, ...], Field(min_length=1)]
    """One after the other, in this order."""
    cron: str | None = None
    """Five fields; days of the week from Sunday (0 or 7)."""
    every: str | None = None
    """``10m``, ``6h``, ``1d``, counted from the beginning of 1970 in UTC."""
    after: str | None = None
    """Whenever that schedule has run."""
    after_outcome: Literal["ok", "any"] = "ok"
    """Only when it went well, or in any case."""
    timezone: str = "UTC"
    exclude: tuple[str, ...] = ()
    """Days: ``sun``, ``mon-fri``, ``12-25``, ``2026-12-24``, ``2026-12-24..2027-01-02``."""
    window: StartWindowSection | None = None
    """Start only then; what is due outside waits for its beginning."""
    jitter_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Start up to so much later; always the same for one schedule and one moment."""
    missed: Literal["run", "skip"] = "run"
    """What becomes of times at which the service did not run."""
    missed_max_h: Annotated[float, Field(gt=0, le=8784)] = 24
    """Older ones are skipped in any case."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Of two that wait for their turn, the higher one first."""
    enabled: bool = True
    full: bool = False
    """Read every disk whole."""
    schedule_id: uuids.UUID | None = None
    """Retention counts by it; that of the job when absent, or one derived from the schedule's name when it has a
    retention of its own."""
    retention: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Instead of the job's."""
    keep: KeepSection | None = None
    """Instead of the job's."""

    @model_validator(mode="after")
    def _consistent(self) -> ScheduleSection:
        if sum(one is not None for one in (self.cron, self.every, self.after)) != 1:
            raise ValueError("expected one of cron, every and after")
        if self.after is not None and (self.window or self.jitter_s or self.exclude):
            raise ValueError("after: it runs when the other one ends, which has window, jitter_s and exclude")
        if self.after is None:
            self.schedule("check")
        return self

    def schedule(self, name: str) -> Schedule:
        """For the service; not of those that follow another one."""
        return Schedule(
            calendar=Calendar(
                name=name,
                timing=timing_of(cron=self.cron, every=self.every, timezone=self.timezone),
                excluded=parse_excluded(self.exclude),
                window=self.window.span() if self.window else None,
                jitter_s=self.jitter_s,
            ),
            enabled=self.enabled,
            missed=Missed(self.missed),
            missed_max_s=round(self.missed_max_h * 3600),
            priority=self.priority,
        )


class ServiceSection(Section):
    """``xobackup serve``."""

    runs_max: Annotated[int, Field(ge=1, le=64)] = 2
    """Schedules that run at a time."""
    operations_max: Annotated[int, Field(ge=1, le=16)] = 1
    """Restores, verifications and tests ordered on the page that go at a time."""
    finish_wait_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 0
    """How long runs may go on to their end when the service is stopped, before they are told to stop too."""
    stop_wait_s: Annotated[float, Field(ge=0, le=86_400)] = 90
    """How long runs that were told to stop may take to clean up; the next start does what is left."""
