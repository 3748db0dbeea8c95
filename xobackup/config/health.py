"""``[jobs.NAME.health_check]``: what a job publishes is booted for trial, and removed."""

from __future__ import annotations

import shlex
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from xobackup.config.periods import Period, seconds
from xobackup.config.section import Section

Text = Annotated[str, Field(min_length=1)]


class HealthCheckSection(Section):
    """After the backups of a run, and after nothing else waits for it."""

    sr: Text | None = None
    """Where VMs are restored to: uuid or name. A replica is cloned on its own SR."""
    pool: Text | None = None
    """That has this SR; the job's own when absent."""
    remote: Text | None = None
    """From which of the job's remotes; the first when absent."""
    replica: Text | None = None
    """A target of ``replicate_to``, instead of a remote: clones of its new restore points are booted."""
    tags: tuple[Text, ...] = ()
    """Only VMs that have one of them."""
    every: Period | None = None
    """Only VMs whose last check is that long ago."""
    vms_max: Annotated[int, Field(ge=1)] | None = None
    """At most so many in one run, those not checked for longest first."""
    timeout: Period = "10m"
    """From the start of a VM to its last answer."""
    network: Text | None = None
    """An isolated one for all NICs; no NICs when absent."""
    tools: bool = True
    """Wait for the guest tools."""
    script: bool | None = None
    """Wait for the script in the guest; by the VM's tag when absent."""
    memory: bool = True
    """Resume a VM that was taken with its memory."""
    tcp: tuple[Annotated[int, Field(gt=0, le=65535)], ...] = ()
    """Ports that must answer."""
    commands: tuple[Text, ...] = ()
    """On this machine, without a shell; each must succeed."""

    @field_validator("commands")
    @classmethod
    def _words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not shlex.split(one):
                raise ValueError("expected a command, found nothing")
        return value

    @model_validator(mode="after")
    def _askable(self) -> HealthCheckSection:
        if self.replica is None and self.sr is None:
            raise ValueError("sr: say where VMs are restored to, or name a target in replica")
        if self.replica is not None and (self.sr or self.pool or self.remote):
            raise ValueError("replica: a clone is made on the replica's own SR; leave out sr, pool and remote")
        if self.tcp and self.network is None:
            raise ValueError("tcp: the restored VM needs a network: name an isolated one that this machine reaches")
        if not self.tools and not self.tcp and not self.commands and self.script is not True:
            raise ValueError("tools = false: then commands, tcp or script have to say that the VM is up")
        return self

    @property
    def every_s(self) -> float:
        return 0.0 if self.every is None else seconds(self.every)

    @property
    def timeout_s(self) -> float:
        return seconds(self.timeout)
