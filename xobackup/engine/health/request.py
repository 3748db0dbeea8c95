"""What a health check is asked to do, and what it found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xobackup.engine.errors import EngineError, UsageError

TIMEOUT_S = 600.0
"""From the start of the VM to its last answer; Xen Orchestra's."""
PORT_MAX = 65535


class CheckFailed(EngineError):
    """The restored VM did not do what a healthy one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to the running guest: a TCP port of it, or a command on this machine (its words)."""

    tcp: int | None = None
    command: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"tcp {self.tcp}" if self.tcp is not None else f"command {self.command[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """How to check. ``network`` is where all NICs go, with new MAC addresses; ``None``: the VM has none."""

    sr: str
    network: str | None = None
    timeout_s: float = TIMEOUT_S
    tools: bool = True
    """Wait for the guest tools. A guest without them needs a probe that says it is up."""
    script: bool | None = None
    """Wait for the script in the guest; ``None``: when the VM has the tag for it."""
    memory: bool = True
    """A VM that was taken with its memory is resumed; otherwise booted."""
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        ports = [probe.tcp for probe in self.probes if probe.tcp is not None]
        if any(not 0 < port <= PORT_MAX for port in ports):
            raise UsageError(f"tcp probe: expected a port from 1 to {PORT_MAX}, found {ports}")
        if ports and self.network is None:
            raise UsageError(
                "a tcp probe needs a network for the restored VM",
                hint="name an isolated one that this machine reaches, or probe by a command",
            )
        if not self.tools and not self.probes and self.script is not True:
            raise UsageError(
                "without guest tools nothing says that the VM is up", hint="add a probe, or the script in the guest"
            )
        if self.timeout_s <= 0:
            raise UsageError(f"timeout: expected more than 0 seconds, found {self.timeout_s:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step and how long it took. Together they are the time to recovery."""

    name: str
    seconds: float
    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One VM's check. ``reason`` is empty when all is well; ``removed`` says whether its VM is gone."""

    vm_uuid: str
    vm_name: str
    point: str
    remote: str
    pool: str
    sr: str
    started_at: str
    ok: bool
    reason: str
    steps: tuple[Step, ...]
    size_bytes: int
    blocks_compared: int
    removed: bool
    warnings: tuple[str, ...] = ()

    @property
    def rto_s(self) -> float:
        """Seconds from the beginning of the restore to the last answer."""
        return sum(step.seconds for step in self.steps)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "rto_s": self.rto_s}
