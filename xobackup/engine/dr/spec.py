"""What a plan asks for, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from xobackup.engine.health.request import Probe
from xobackup.engine.job import SrTarget, VmRule

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """When a VM counts as ready. Without anything to ask it is ready when it runs."""

    tools: bool = True
    tcp: int | None = None
    command: tuple[str, ...] = ()
    timeout_s: float = TIMEOUT_S
    """From its start to its last answer."""

    def probes(self, *, network: bool) -> tuple[Probe, ...]:
        """``network``: whether the VM has one."""
        found = [Probe(tcp=self.tcp)] if self.tcp is not None and network else []
        return (*found, *([Probe(command=self.command)] if self.command else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """VMs that are started together. ``delay_s``: between the group's being ready and the next one's start."""

    name: str
    vms: tuple[VmRule, ...]
    delay_s: float = 0.0
    ready: Readiness = field(default_factory=Readiness)
    ha: str = ""
    """``ha_restart_priority`` of what is failed over."""
    auto_start: bool = True
    """Whether a host that boots starts what is failed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan of the configuration. ``target``: with all its SRs."""

    name: str
    target: SrTarget
    groups: tuple[Group, ...]
    rpo_s: float | None = None
    """No restore point should be older."""
    test_network: str | None = None
    """Name or uuid; ``None``: VMs of a test have no NICs."""
