"""Hooks in the configuration: ``[[jobs.NAME.hooks]]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from xobackup.config.secrets import Secret

VM_MOMENTS = ("before-snapshot", "after-snapshot", "after-vm")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HookSection(BaseModel):
    """A command (a list of arguments, no shell) or a URL (the facts are posted to it as JSON)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Literal["before-run", "after-run", "before-snapshot", "after-snapshot", "after-vm", "on-failure"]
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    url: Secret | None = None
    headers: dict[str, Secret] = {}
    ca: Path | None = None
    """Authorities that vouch for the URL's server, instead of the system's."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 60
    if_it_fails: Literal["stop", "warn"] | None = None
    """``stop`` when absent for what comes before something, else ``warn``."""

    @field_validator("command")
    @classmethod
    def _program(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value[0].strip():
            raise ValueError("the first argument is the program, found an empty one")
        if value is not None and any("\0" in argument for argument in value):
            raise ValueError("an argument holds a NUL character")
        return value

    @field_validator("url")
    @classmethod
    def _web(cls, value: Secret | None) -> Secret | None:
        if value is not None and value.value is not None:
            checked_url(value.value.get_secret_value())
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name in value:
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(f"expected the name of a header, found {name!r}")
        return value

    @model_validator(mode="after")
    def _one(self) -> HookSection:
        if (self.command is None) == (self.url is None):
            raise ValueError("expected either command or url")
        if self.command is not None and (self.headers or self.ca is not None):
            raise ValueError("headers and ca belong to url, not to command")
        if self.on == "on-failure" and self.if_it_fails == "stop":
            raise ValueError('if_it_fails = "stop": what has failed cannot be stopped any more')
        return self


def checked_url(url: str) -> str:
    """``url`` itself, if facts can be posted to it; ``ValueError`` (never naming it: it may be secret) otherwise."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(not "!" <= character <= "~" for character in url):
        raise ValueError("expected http://host/... or https://host/... in ASCII")
    if parts.username is not None:
        raise ValueError("a user in the URL is not sent; use headers")
    return url
