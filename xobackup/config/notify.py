"""``[notify.NAME]``: who is told when something is wrong, and when it is well again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints, field_validator, model_validator

from schedules.calendar import Calendar, timing_of
from schedules.periods import zone_of
from xobackup.config.periods import Period, seconds
from xobackup.config.secrets import Secret
from xobackup.config.section import Section


class NotifySection(Section):
    """One place. Addresses may hold secrets, and may be read from elsewhere like any secret."""

    webhook: Secret | None = None
    """Gets a POST with JSON."""
    secret: Secret | None = None
    """Signs it (HMAC-SHA256)."""
    healthchecks: Secret | None = None
    """The address of a check at healthchecks.io, or a server like it."""
    apprise: Secret | None = None
    """``mailto://...``, ``ntfy://...``, ``slack://...``: what Apprise knows."""
    on: tuple[Literal["failure", "rpo", "full", "damage", "lock", "anomaly", "service", "digest"], ...] = ()
    """All when absent; for ``healthchecks`` those for which a backup may be missing. ``["digest"]``: only that."""
    jobs: tuple[str, ...] = ()
    """Only of these; all when absent."""
    repeat: Period = "24h"
    """What is still wrong is told again after so long."""

    digest: Literal["daily", "weekly"] | None = None
    """What happened since the last one."""
    digest_at: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = None
    """``07:00`` when absent."""
    digest_day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] | None = None
    """Of a weekly one; ``mon`` when absent."""
    timezone: str = "UTC"
    """Of the digest's times."""

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        zone_of(value)
        return value

    @model_validator(mode="after")
    def _one(self) -> NotifySection:
        given = [name for name in ("webhook", "healthchecks", "apprise") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of webhook, healthchecks and apprise, found {', '.join(given) or 'none'}")
        if self.secret is not None and self.webhook is None:
            raise ValueError("secret: only with webhook")
        if self.digest is not None and self.healthchecks is not None:
            raise ValueError("digest: only with webhook and apprise, a check reads nothing")
        if self.digest is None and (self.digest_at or self.digest_day or "digest" in self.on):
            raise ValueError('digest_at, digest_day and on = ["digest"]: only with digest = "daily" or "weekly"')
        if self.digest_day is not None and self.digest != "weekly":
            raise ValueError('digest_day: only with digest = "weekly"')
        if "digest" in self.on and len(self.on) > 1:
            raise ValueError('on = ["digest"]: nothing beside it, a digest is sent anyway; expected it alone')
        return self

    @property
    def digest_only(self) -> bool:
        return "digest" in self.on

    def calendar(self, name: str) -> Calendar:
        """When the digest is sent."""
        hour, minute = (int(part) for part in (self.digest_at or "07:00").split(":"))
        day = (self.digest_day or "mon") if self.digest == "weekly" else "*"
        cron = f"{minute} {hour} * * {day}"
        return Calendar(name=name, timing=timing_of(cron=cron, every=None, timezone=self.timezone))

    @property
    def repeat_s(self) -> float:
        return seconds(self.repeat)
