"""A group that a worker may do as a whole. What is not in it is done VM by VM, by workers too.

Who begins the group does all of it: a group of which this machine has taken snapshots stays here, one that a worker
did comes back with every verdict final.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.engine.attempt import Turn
    from xobackup.engine.group.conduct import GroupWork
    from xobackup.engine.handing import Handing
    from xobackup.engine.report import GroupReport, VmReport
    from xobackup.engine.turns.work import AttemptUnit, Unit


class HandedGroup:
    """One run's group and everything that is not in it."""

    def __init__(
        self, group: GroupWork, handing: Handing | None, *, here: AttemptUnit, single: AttemptUnit, members: set[str]
    ) -> None:
        """``here``: the group, or a VM, by this machine; ``single``: a VM by whoever can. ``members``: uuids."""
        self._group = group
        self._handing = handing
        self._attempt_here = here
        self._single = single
        self._members = members
        self._here = handing is None
        self._handed: GroupReport | None = None

    @property
    def report(self) -> GroupReport | None:
        return self._group.report or self._handed

    def attempt(self, unit: Unit, turns: Mapping[str, Turn]) -> Sequence[VmReport]:
        """One attempt for what belongs together, or for a VM of its own."""
        if not any(vm.uuid in self._members for _, vm in unit):
            return self._single(unit, turns)
        refused = any(turns[vm.uuid].refusal is not None for _, vm in unit)
        one_pool = len({context.pool_uuid for context, _ in unit}) == 1
        if self._handing is not None and not self._here and not refused and one_pool:
            done = self._handing.group([vm for _, vm in unit], turns)
            if done is not None:
                reports, self._handed = done[0], done[1] or self._handed
                return reports
        self._here = True
        return self._attempt_here(unit, turns)
