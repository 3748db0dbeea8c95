"""``[web]``: the status page and the API of ``xobackup serve``."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from xobackup.config.limits import checked_zone
from xobackup.config.section import Section

_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+)):(\d{1,5})")


class WebUserSection(Section):
    """Somebody who may log in."""

    password_hash: Annotated[str, Field(pattern=r"^\$argon2id\$")]
    """``xobackup web password`` makes it."""
    role: Literal["viewer", "operator", "admin"] = "viewer"


class WebSection(Section):
    """Where it listens, and who may come in."""

    listen: str = "127.0.0.1:8480"
    """``address:port``; empty: there is no page."""
    look: Literal["anyone", "users"] | None = None
    """Who may look without being allowed to do anything: anyone on this machine alone, users elsewhere, when absent.
    """
    certificate: Path | None = None
    key: Path | None = None
    """Files for TLS."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose word is taken for where a request came from (``X-Forwarded-For``, ``-Proto``)."""
    hosts: tuple[str, ...] = ()
    """Names under which it is reached, besides addresses and localhost."""
    timezone: str = ""
    """Of the times on the pages; the machine's own when absent."""
    exchange: Path | None = None
    """The directory of the files that commands ordered by the API read and write; without it they take no files."""
    users: dict[str, WebUserSection] = Field(default_factory=dict)

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return checked_zone(value)

    @field_validator("exchange")
    @classmethod
    def _whole(cls, value: Path | None) -> Path | None:
        if value is not None and (not value.is_absolute() or ".." in value.parts):
            raise ValueError(f"expected an absolute path, found {str(value)!r}")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            ipaddress.ip_network(one, strict=False)
        return value

    @field_validator("users")
    @classmethod
    def _named(cls, value: dict[str, WebUserSection]) -> dict[str, WebUserSection]:
        for name in value:
            if not name.isprintable() or not 0 < len(name) <= 100:
                raise ValueError(f"{name!r}: expected a name that can be printed, of at most 100 characters")
        return value

    @model_validator(mode="after")
    def _safe(self) -> WebSection:
        if not self.listen:
            return self
        host, _ = self.address
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.only_here:
            return self
        if not self.users:
            raise ValueError(f"listen: {host} can be reached from other machines, so there have to be users")
        if self.certificate is None and not self.trusted_proxies:
            raise ValueError(
                f"listen: {host} can be reached from other machines: give certificate and key, or name the proxy "
                "in front of it in trusted_proxies"
            )
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises ``ValueError``."""
        found = _LISTEN.fullmatch(self.listen)
        if found is None or int(found[3]) > 65535:
            raise ValueError(f"listen: expected address:port, found {self.listen!r}")
        return found[1] or found[2], int(found[3])

    @property
    def only_here(self) -> bool:
        """Whether only this machine reaches it."""
        host, _ = self.address
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def open_to_look(self) -> bool:
        return self.look == "anyone" or (self.look is None and self.only_here)
