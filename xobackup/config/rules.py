"""Rules by which VMs and disks are chosen or left out."""

from __future__ import annotations

import uuid as uuids
from contextlib import suppress
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from xobackup.config.limits import parse_floor


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    _ALL: ClassVar[str] = ""

    @model_validator(mode="after")
    def _not_empty(self) -> _Rule:
        known = list(type(self).model_fields)
        if all(getattr(self, key) in (None, "") for key in known):
            raise ValueError(f"expected at least one of {', '.join(known)}{self._ALL}")
        return self


class VmRule(_Rule):
    """VMs that match all the keys given: ``name`` is a shell pattern; ``host`` (uuid or name) is where it runs, or
    else the one it prefers."""

    _ALL: ClassVar[str] = '; for all VMs write name = "*"'
    uuid: uuids.UUID | None = None
    name: str | None = None
    tag: str | None = None
    power_state: Literal["Running", "Halted", "Paused", "Suspended"] | None = None
    host: str | None = None


class DiskRule(_Rule):
    """Disks that match all the keys given: ``name`` is a pattern, ``device`` a number (``"0"``), ``sr`` a uuid or a
    name, ``larger_than`` a size (``"500 GiB"``, or bytes)."""

    uuid: uuids.UUID | None = None
    name: str | None = None
    tag: str | None = None
    device: str | None = None
    sr: str | None = None
    larger_than: int | None = None

    @field_validator("larger_than", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        return size_bytes(value) if isinstance(value, str) else value

    @field_validator("larger_than")
    @classmethod
    def _not_negative(cls, value: int | None) -> int | None:
        if value is not None and value < 0:
            raise ValueError(f"expected a size, found {value}")
        return value


def size_bytes(text: str) -> int:
    """``500 GiB``, ``1.5 TB``, ``4096``. Raises ``ValueError``."""
    with suppress(ValueError):
        share, size = parse_floor(text)
        if not share and "%" not in text:
            return size
    raise ValueError(f"expected a size such as '500 GiB', found {text!r}")
