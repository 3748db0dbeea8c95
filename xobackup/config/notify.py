"""``[notify.NAME]``: who is told when something is wrong, and when it is well again."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

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
    on: tuple[Literal["failure", "rpo", "service"], ...] = ()
    """All when absent."""
    jobs: tuple[str, ...] = ()
    """Only of these; all when absent."""
    repeat: Period = "24h"
    """What is still wrong is told again after so long."""

    @model_validator(mode="after")
    def _one(self) -> NotifySection:
        given = [name for name in ("webhook", "healthchecks", "apprise") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of webhook, healthchecks and apprise, found {', '.join(given) or 'none'}")
        if self.secret is not None and self.webhook is None:
            raise ValueError("secret: only with webhook")
        return self

    @property
    def repeat_s(self) -> float:
        return seconds(self.repeat)
