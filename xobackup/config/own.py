"""``[self]``: backups of our own configuration, history and state."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from xobackup.config.periods import Period, seconds
from xobackup.config.section import Section


class SelfSection(Section):
    """Where they go, how often the service makes them, how many are kept."""

    remotes: tuple[str, ...] = ()
    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
    """Of this machine, on remotes that several share; its host name when absent."""
    every: Period = "1d"
    """By the service: after the first run that ends when so much time has passed, at the latest half of it later."""
    keep: Annotated[int, Field(ge=1, le=10_000)] = 14
    """The newest so many, on each remote."""

    @field_validator("remotes")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("one is named twice")
        return value

    @property
    def every_s(self) -> float:
        return seconds(self.every)
