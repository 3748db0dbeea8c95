"""Which of the steps that reclaiming proposes a lock forbids: pure, but for asking what is locked.

A held step becomes a refusal that says what holds it and until when; the others go on. Deleting a disk that is held
holds those below it too: a disk's parent exists as long as the disk does. Where objects are locked as they are put
no merge begins at all: its copies would be locked anew, and what it deletes would stay. Elsewhere a merge goes as
far as what it touches is free: retention alone would always want the next disk too, which is locked for a day longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

from xobackup.repository.layout import vm_directory
from xobackup.repository.lineage import Lineage
from xobackup.repository.lock_rule import IMMUTABLE, LockRule
from xobackup.repository.protection import Held, Locks, longest, until_text
from xobackup.repository.reclaim import ReclaimPlan, ReclaimRefusal, ReclaimStep, StepKind

NOT_MERGED = "what the remote locks is deleted a chain at a time, never merged"
HELD = "held"
"""Code of such a refusal: nothing is wrong, only not now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withholder:
    """Judges the plans of one VM's lineages."""

    vm: str
    locks: Locks
    rule: LockRule | None = None

    def judge(self, lineage: Lineage, plan: ReclaimPlan) -> ReclaimPlan:
        """The plan without what is held."""
        steps: list[ReclaimStep] = []
        refusals = list(plan.refusals)
        kept: set[str] = set()
        for step in plan.steps:
            free = self._free_part(lineage, step)
            why = "" if free is not None else self._held(lineage, step, kept)
            if free is not None:
                steps.append(free)
            elif why:
                refusals.append(ReclaimRefusal(lineage=lineage.path, code=HELD, reason=why))
            else:
                steps.append(step)
        return ReclaimPlan(steps=tuple(steps), refusals=tuple(refusals))

    def _free_part(self, lineage: Lineage, step: ReclaimStep) -> ReclaimStep | None:
        """The beginning of a merge that nothing holds, when something holds the rest."""
        if step.kind is not StepKind.MERGE or (self.rule is not None and self.rule.mode != IMMUTABLE):
            return None
        free = tuple(takewhile(lambda name: self._longest(lineage, [name]) is None, step.names))
        if len(free) < 2 or free == step.names:
            return None
        rest = step.names[len(free)]
        reason = f"no restore point names them; {rest}, which builds on them, is held by a lock"
        return replace(step, names=free, reason=reason)

    def _held(self, lineage: Lineage, step: ReclaimStep, kept: set[str]) -> str:
        if step.kind is StepKind.MERGE:
            return self._merge_held(lineage, step)
        if step.kind is StepKind.DELETE:
            (name,) = step.names
            if name in kept:
                return f"{name} stays: a disk that is held builds on it"
            held = self._longest(lineage, step.names)
            if held is not None:
                kept.update(member.name for member in lineage.chain(name) or ())
            return str(held or "")
        if step.kind is StepKind.RESUME:
            held = self._longest(lineage, sorted(lineage.merging()))
            return f"a merge waits to be resumed: {held}" if held is not None and not held.hides else ""
        held = self._litter(lineage, step.names)
        return str(held) if held is not None and not held.hides else ""

    def _merge_held(self, lineage: Lineage, step: ReclaimStep) -> str:
        held = self._longest(lineage, step.names)
        if self.rule is not None and self.rule.mode != IMMUTABLE:
            ends = f"; the last lock of these disks holds {until_text(held.until_s)}" if held is not None else ""
            return (
                f"{', '.join(step.names[:-1])} stays until the restore points that build on it are gone too: "
                f"{NOT_MERGED}{ends}"
            )
        return f"merging {' <- '.join(step.names)} has to wait: {held}" if held is not None else ""

    def _longest(self, lineage: Lineage, names: Iterable[str]) -> Held | None:
        members = [lineage.members[name] for name in names if name in lineage.members]
        found = [held for one in members if (held := self.locks.of_disk(self.vm, lineage.path, one)) is not None]
        return longest(found)

    def _litter(self, lineage: Lineage, names: Iterable[str]) -> Held | None:
        root = f"{vm_directory(self.vm)}/{lineage.path}"
        return longest([held for name in names if (held := self.locks.of(name, [f"{root}/{name}"])) is not None])
