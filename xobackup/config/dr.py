"""Plans of disaster recovery in the configuration: ``[dr.NAME]``."""

from __future__ import annotations

import shlex
import uuid as uuids
from contextlib import suppress
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from xobackup.config.periods import Period, seconds
from xobackup.config.rules import VmRule
from xobackup.config.section import Section

Text = Annotated[str, Field(min_length=1)]


class ReplicatedRule(VmRule):
    """VMs by what a replica keeps of them: ``uuid``, ``name`` (a shell pattern), ``tag``."""

    power_state: None = None
    host: None = None
    _ALL: ClassVar[str] = '; for all VMs write name = "*"'


class ReadySection(Section):
    """When a VM counts as ready."""

    tools: bool = True
    """Wait for the guest tools."""
    tcp: Annotated[int, Field(gt=0, le=65535)] | None = None
    command: Text | tuple[Text, ...] | None = None
    """On this machine, as a shell would split it, but without a shell."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 300

    @field_validator("command")
    @classmethod
    def _words(cls, value: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
        words = tuple(shlex.split(value)) if isinstance(value, str) else value
        if words is not None and not words:
            raise ValueError("expected a command, found nothing")
        return words

    @property
    def words(self) -> tuple[str, ...]:
        return self.command if isinstance(self.command, tuple) else ()


class GroupSection(Section):
    """VMs that are started together."""

    name: Text
    vms: Annotated[tuple[ReplicatedRule, ...], Field(min_length=1)]
    """Rules, or just the uuid or the name (a pattern) of a VM."""
    delay_s: Annotated[float, Field(ge=0, le=86_400)] = 0
    """After the group is ready, before the next one."""
    ready: ReadySection = ReadySection()
    ha: Literal["", "best-effort", "restart"] = ""
    auto_start: bool = True

    @field_validator("vms", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        return [_rule(one) if isinstance(one, str) else one for one in value]


class DrSection(Section):
    """A plan."""

    target: str
    groups: Annotated[tuple[GroupSection, ...], Field(min_length=1)]
    rpo: Period | None = None
    """``15m``: no restore point should be older."""
    test_network: Text | None = None
    """Uuid or name; without it the VMs of a test have no NICs."""

    @property
    def rpo_s(self) -> float | None:
        return None if self.rpo is None else seconds(self.rpo)

    @model_validator(mode="after")
    def _different(self) -> DrSection:
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError("groups: two of them have the same name")
        return self


def _rule(text: str) -> dict[str, str]:
    with suppress(ValueError):
        return {"uuid": str(uuids.UUID(text))}
    return {"name": text}
