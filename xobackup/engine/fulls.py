"""The limit on VMs whose chains start again unasked, held while a run goes on.

What the plan foresaw was judged before anything was touched (:func:`~xobackup.engine.plan.limit_fulls`); this counts
what only turns out later, when a disk is about to be read whole although it was backed up before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from xobackup.engine.errors import VmRefused

Counting = Callable[[str, int], bool]
"""Counts a VM (uuid) as one of at most so many; ``False``: it would be too many. Raises ``EngineError``."""


class FullsLimit:
    """One per run, shared by all its VMs."""

    def __init__(self, vms_max: int | None, elsewhere: Counting | None = None) -> None:
        """``elsewhere``: where VMs of the run are counted that others do."""
        self._vms_max = vms_max
        self._elsewhere = elsewhere
        self._vms: set[str] = set()
        self._lock = threading.Lock()

    def claim(self, vm_uuid: str, reason: str) -> None:
        """Count ``vm_uuid`` (once) as one that starts again; raises :class:`VmRefused` when it would be too many."""
        with self._lock:
            if self._vms_max is not None and not self._counted(vm_uuid, self._vms_max):
                message = f"more than {self._vms_max} VMs would unexpectedly be transferred whole; this one: {reason}"
                raise VmRefused(
                    message, hint="see the reason; then run it with --full, or raise unexpected_fulls_max"
                )
            self._vms.add(vm_uuid)

    def _counted(self, vm_uuid: str, vms_max: int) -> bool:
        here = vm_uuid in self._vms or len(self._vms) < vms_max
        return here and (self._elsewhere is None or self._elsewhere(vm_uuid, vms_max))
