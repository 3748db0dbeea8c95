"""``[engine]``: whether VMs are given to workers, and by which database."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator, model_validator

from xobackup.config.periods import Period, seconds
from xobackup.config.secrets import Secret
from xobackup.config.section import Section
from xobackup.config.sites import Site
from xobackup.relay.addresses import split_address


class RelaySection(Section):
    """This machine's worker leads workers of other sites to what it reaches: docs/workers.md."""

    listen: str
    """``host:port``; ``0.0.0.0:8483`` for all addresses of the machine."""
    address: str | None = None
    """``host:port`` by which the others reach it; absent: this machine's name and that port."""
    remotes: tuple[str, ...] | None = None
    """Those that it leads to, of what it reaches; absent: all."""
    pools: tuple[str, ...] | None = None
    """The same of pools, to whose hosts replicas are written."""

    @field_validator("listen", "address")
    @classmethod
    def _of_a_host(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value


LEASE_LEAST_S = 15
"""A sign of life gets lost now and then."""


class EngineSection(Section):
    """Without ``database`` every process does its own VMs."""

    database: str | None = None
    """``postgresql://user@host/database``; ``sqlite:////path/engine.db`` for workers on this one machine."""
    password: Secret | None = None
    """Of a server; without it what libpq finds by itself (``PGPASSFILE``, ``~/.pgpass``)."""
    site: Site | None = None
    """Where this machine is, for what it does itself when no worker can."""
    wait: Period = "15m"
    """How long a VM waits for a worker that reaches what it needs, where this machine does not."""

    schedules: Literal["own", "shared"] = "own"
    """``shared``: every `xobackup serve` with this database follows the same schedules, each time by one of them."""
    lease: Period = "2m"
    """How long a node that shares schedules may not be heard of, before another one begins its runs again."""
    relay: RelaySection | None = None
    """Of its worker; without it the worker leads nobody anywhere."""

    @field_validator("database")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError(f"expected postgresql://user@host/database or sqlite:////path, found {value!r}")
        return value

    @model_validator(mode="after")
    def _password_of_a_server(self) -> EngineSection:
        if self.password is not None and not (self.database or "").startswith("postgresql://"):
            raise ValueError("password: only for a postgresql:// database")
        return self

    @model_validator(mode="after")
    def _shared_by_a_database(self) -> EngineSection:
        if self.schedules == "shared" and self.database is None:
            raise ValueError('schedules: "shared" needs the database of the engine')
        if self.lease_s < LEASE_LEAST_S:
            raise ValueError(f"lease: expected {LEASE_LEAST_S} s or more, found {self.lease}")
        return self

    @property
    def lease_s(self) -> float:
        return seconds(self.lease)

    @property
    def wait_s(self) -> float:
        return seconds(self.wait)
