"""What becomes of disks that no restore point names any more. Pure: from a listing and a lineage to reasoned steps.

In a chain root ... tip, a disk is *active* when a restore point names it. Inactive disks with an active disk above
them are merged into it (one step per active disk: all inactive ones directly below, oldest first); inactive disks
with nothing active above are deleted, tip first, because a disk's parent must exist as long as the disk does. Where
no disk of a directory is active, nothing is proposed, unless it is known to hold a memory image and nothing else.

Everything here rests on "no restore point names it". So unless the listing was certain (every JSON read and
understood) and the lineage too (every disk opened), nothing is proposed, and the refusal says what is in doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from xobackup.repository.lineage import Lineage
from xobackup.repository.listing import PointListing

BROKEN = "chain-broken"
"""Code of a refusal: a disk that another one builds on is not there."""


class StepKind(StrEnum):
    RESUME = "resume"
    MERGE = "merge"
    DELETE = "delete"
    LITTER = "litter"
    """A part or temporary file of an interrupted run, objects that no alias names."""
    FORGET = "forget"
    """The directory of a memory image that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimStep:
    """One thing to do in a lineage. ``names``: the chain of a merge, root first; else the one name."""

    kind: StepKind
    lineage: str
    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimRefusal:
    """A lineage, or a chain of it, that is left alone."""

    lineage: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimPlan:
    steps: tuple[ReclaimStep, ...] = ()
    refusals: tuple[ReclaimRefusal, ...] = ()


def named_disks(listing: PointListing, lineage: str) -> frozenset[str]:
    """Base names of the disks of ``lineage`` that restore points name."""
    paths = (disk.path.rpartition("/") for point in listing.points for disk in point.disks)
    return frozenset(name for directory, _, name in paths if directory == lineage)


def plan_lineage(lineage: Lineage, listing: PointListing, *, memory: bool = False) -> ReclaimPlan:
    """What to do in one lineage; ``memory``: it holds a memory image and nothing else."""
    named = named_disks(listing, lineage.path)
    litter = [_litter(lineage, name) for name in (*lineage.parts, *lineage.temporaries)]

    def refuse(code: str, reason: str) -> ReclaimPlan:
        refusal = ReclaimRefusal(lineage=lineage.path, code=code, reason=reason)
        return ReclaimPlan(steps=tuple(litter), refusals=(refusal,))

    resumes = tuple(
        ReclaimStep(kind=StepKind.RESUME, lineage=lineage.path, names=(name,), reason="a merge was interrupted")
        for name in lineage.states
    )
    if resumes:  # what there is to merge shows when that is done
        return ReclaimPlan(steps=(*litter, *resumes))
    if not lineage.certain:
        doubts = "; ".join(str(problem) for problem in lineage.problems[:3])
        return refuse("lineage-uncertain", f"not everything there could be read: {doubts}")
    litter += [_litter(lineage, name) for name in lineage.orphan_data]
    if set(lineage.members) <= named and not (memory and not named and listing.certain):
        return ReclaimPlan(steps=tuple(litter))
    if not listing.certain:
        doubts = "; ".join(str(problem) for problem in listing.problems[:3])
        return refuse("listing-uncertain", f"not every restore point could be read: {doubts}")
    if not named and memory:
        return ReclaimPlan(steps=(*litter, *_memory_steps(lineage)))
    if not named:
        return refuse("lineage-unreferenced", "no restore point names a disk there; clean decides about it")
    steps, refusals = _chains(lineage, named)
    return ReclaimPlan(steps=(*litter, *steps), refusals=tuple(refusals))


def _memory_steps(lineage: Lineage) -> Iterator[ReclaimStep]:
    reason = "the restore point it belonged to is gone"
    for name in lineage.members:
        yield ReclaimStep(kind=StepKind.DELETE, lineage=lineage.path, names=(name,), reason=reason)
    yield ReclaimStep(kind=StepKind.FORGET, lineage=lineage.path, names=(), reason=reason)


def _litter(lineage: Lineage, name: str) -> ReclaimStep:
    reason = "left of an interrupted run"
    return ReclaimStep(kind=StepKind.LITTER, lineage=lineage.path, names=(name,), reason=reason)


def _chains(lineage: Lineage, named: Collection[str]) -> tuple[list[ReclaimStep], list[ReclaimRefusal]]:
    children = lineage.children()
    steps: list[ReclaimStep] = []
    refusals: list[ReclaimRefusal] = []
    for tip in (name for name in lineage.members if name not in children):
        chain = lineage.chain(tip)
        if chain is None:
            reason = f"the chain of {tip} is broken: {lineage.broken_chain(tip)}"
            refusals.append(ReclaimRefusal(lineage=lineage.path, code=BROKEN, reason=reason))
            continue
        names = [member.name for member in chain]
        forks = [name for name in names if len(children.get(name, ())) > 1]
        if forks:
            reason = f"{forks[0]} has several children; merging would destroy all but one"
            refusals.append(ReclaimRefusal(lineage=lineage.path, code="fork", reason=reason))
            continue
        steps += _chain_steps(lineage, names, named)
    order = {StepKind.DELETE: 0, StepKind.MERGE: 1}
    return sorted(steps, key=lambda step: order[step.kind]), refusals


def _chain_steps(lineage: Lineage, names: list[str], named: Collection[str]) -> Iterator[ReclaimStep]:
    """Of one whole chain, root first."""
    active = [at for at, name in enumerate(names) if name in named]
    last = active[-1] if active else -1
    for name in reversed(names[last + 1 :]):
        reason = "no restore point names it, nor any disk above it"
        yield ReclaimStep(kind=StepKind.DELETE, lineage=lineage.path, names=(name,), reason=reason)
    start = 0
    for at in active:
        if at > start:
            chain = tuple(names[start : at + 1])
            reason = f"no restore point names {', '.join(chain[:-1])}, but {chain[-1]} builds on it"
            yield ReclaimStep(kind=StepKind.MERGE, lineage=lineage.path, names=chain, reason=reason)
        start = at + 1
