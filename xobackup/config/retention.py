"""What is kept besides the newest, as the file says it: ``[jobs.NAME.keep]``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from schedules.periods import Offsets, zone_of
from schedules.retention import MS_PER_DAY, LongTerm
from xobackup.config.section import Section

Kept = Annotated[int, Field(ge=0, le=100_000)]


class KeepSection(Section):
    """One restore point per period, for so many periods that have one; its oldest, as Xen Orchestra does."""

    hourly: Kept = 0
    daily: Kept = 0
    weekly: Kept = 0
    """Weeks begin on Sunday, as Xen Orchestra's do; see ``first_day_of_week``."""
    monthly: Kept = 0
    yearly: Kept = 0
    timezone: str = "UTC"
    """Whose days these are: a name like ``Europe/Paris``."""
    first_hour_of_day: Annotated[int, Field(ge=0, le=23)] = 0
    first_day_of_week: Annotated[int, Field(ge=0, le=6)] = 0
    """Days after Sunday: 1 is Monday."""
    first_day_of_month: Annotated[int, Field(ge=0, le=30)] = 0
    """Days after the 1st."""
    first_day_of_year: Annotated[int, Field(ge=0, le=364)] = 0
    """Days after the 1st of January."""
    age_min_days: Annotated[float, Field(ge=0, le=36_500)] = 0
    """Nothing younger is deleted, whatever else is said."""

    @field_validator("timezone")
    @classmethod
    def _exists(cls, value: str) -> str:
        zone_of(value)
        return value

    def long_term(self) -> LongTerm:
        """For the engine."""
        return LongTerm(
            hourly=self.hourly,
            daily=self.daily,
            weekly=self.weekly,
            monthly=self.monthly,
            yearly=self.yearly,
            timezone=self.timezone,
            offsets=Offsets(
                hour_of_day=self.first_hour_of_day,
                day_of_week=self.first_day_of_week,
                day_of_month=self.first_day_of_month,
                day_of_year=self.first_day_of_year,
            ),
            age_min_ms=round(self.age_min_days * MS_PER_DAY),
        )
