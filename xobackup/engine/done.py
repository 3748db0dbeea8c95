"""What came of a VM's backup; filled as it goes, so that a failure tells what was reached before it."""

from __future__ import annotations

from dataclasses import dataclass, field

from xobackup.engine.full.transfer import Exported
from xobackup.engine.hooks.hook import HookResult
from xobackup.engine.transferred import Transferred


@dataclass(slots=True)
class Done:
    """One attempt's. ``points``: the restore point on each remote."""

    points: dict[str, str] = field(default_factory=dict)
    transferred: Transferred = field(default_factory=Transferred)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    merged_blocks: int = 0
    taken: str = ""
    """In which way (:class:`xobackup.engine.taking.way.Method`)."""
    memory_uuid: str = ""
    """Of the VDI with its memory, when it was taken with it."""
    snapshots: int = 0
    """Of the job, that stay on the pool."""
    downtime_s: float = 0.0
    """How long the VM was off for its backup."""
    exported: Exported = field(default_factory=Exported)
    """The images of a full backup."""
    hooks: list[HookResult] = field(default_factory=list)

    @property
    def read_bytes(self) -> int:
        return self.transferred.read_bytes + self.exported.read_bytes
