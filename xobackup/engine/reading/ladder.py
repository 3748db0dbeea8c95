"""By which way a disk is read, and why not by a better one: pure, the same for ``plan`` and for a run.

The ways from best to worst, a *ladder*:

    cbt-nbd       changed block tracking says which 64 KiB ranges, NBD reads exactly these
    list-nbd      the block list of a delta export (closed right after it) says which 2 MiB blocks, NBD reads them
    stream-delta  a delta export, data included
    nbd-full      every allocated block (by the list of a full export) by NBD; blocks of zeros are left out
    stream-full   a full export

A delta begins at its first rung that is possible, a full at ``nbd-full``. When a rung turns out not to work, the disk
is begun again on the next one. Only a *no* of the pool to the delta leads from a delta to a full, never a transfer
that broke: that fails the VM, which is tried again.

Of a qcow2 disk the pool computes no deltas: ``cbt-nbd`` is the only way to one. One larger than a VHD can be is read
by NBD or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from xobackup.xapi.cbt import Why
from xobackup.xapi.image_format import VHD_MAX_BYTES, ImageFormat

if TYPE_CHECKING:
    from xobackup.engine.view import DiskView, PoolSnapshot


class Via(StrEnum):
    """The rungs, best first."""

    CBT = "cbt-nbd"
    LISTED = "list-nbd"
    STREAM_DELTA = "stream-delta"
    NBD_FULL = "nbd-full"
    STREAM_FULL = "stream-full"

    @property
    def delta(self) -> bool:
        return self in (Via.CBT, Via.LISTED, Via.STREAM_DELTA)

    @property
    def nbd(self) -> bool:
        return self not in (Via.STREAM_DELTA, Via.STREAM_FULL)


class NbdUse(StrEnum):
    """A job's ``nbd``."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


class CbtUse(StrEnum):
    """A job's ``cbt``."""

    AUTO = "auto"
    """Use it, and switch it on where it is off."""
    USE = "use"
    """Use it where it is on; change nothing on the pool."""
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the job wants and the pool as a whole offers."""

    nbd: NbdUse = NbdUse.OFF
    cbt: CbtUse = CbtUse.OFF
    nbd_problem: str = ""
    """Why NBD cannot be used on this pool; ``""``: it is offered."""

    @property
    def nbd_refusal(self) -> str:
        """Why nothing is read by NBD, ``""`` when it can be."""
        return "the job says nbd = off" if self.nbd is NbdUse.OFF else self.nbd_problem


STREAMS = Terms()
"""Export streams only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A rung that is not taken, and why."""

    via: Via
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What is left to try, best first, and what is not possible."""

    rungs: tuple[Via, ...] = (Via.STREAM_FULL,)
    passed: tuple[Passed, ...] = ()
    only_cbt: bool = False
    """There is no other way to a delta than change tracking: where that does not work, a full is right."""

    @property
    def first(self) -> Via | None:
        """How the disk is read; ``None``: not at all, on the job's terms."""
        return self.rungs[0] if self.rungs else None

    @property
    def better(self) -> tuple[Passed, ...]:
        """Of what is not possible, what would be better than :attr:`first`; all of it when nothing is left."""
        order = list(Via)
        return tuple(
            one for one in self.passed if not self.rungs or order.index(one.via) < order.index(self.rungs[0])
        )


STREAM_ONLY = Ladder()


class Trouble(Enum):
    """What a rung that did not work says about the others."""

    RUNG = "only this way is not possible"
    NBD = "nothing can be read by NBD"
    DELTA = "the pool cannot compute the delta"


def ladder_of(terms: Terms, disk: DiskView, base: PoolSnapshot | None) -> Ladder:
    """The ladder of one disk, as far as can be known before its snapshot is taken."""
    passed: list[Passed] = []
    rungs: list[Via] = []

    def judge(via: Via, reason: str) -> None:
        if reason:
            passed.append(Passed(via=via, reason=reason))
        else:
            rungs.append(via)

    nbd, stream = terms.nbd_refusal, "the job says nbd = require" if terms.nbd is NbdUse.REQUIRE else ""
    only_cbt = "" if base is None else no_deltas(disk, base)
    if base is not None:
        judge(Via.CBT, nbd or cbt_refusal(terms, disk, base))
        judge(Via.LISTED, nbd or only_cbt)
        judge(Via.STREAM_DELTA, stream or only_cbt)
    judge(Via.NBD_FULL, nbd)
    judge(Via.STREAM_FULL, stream or too_large(disk))
    return Ladder(rungs=tuple(rungs), passed=tuple(passed), only_cbt=bool(only_cbt))


def no_deltas(disk: DiskView, base: PoolSnapshot) -> str:
    """Why the pool itself cannot say what changed since ``base``; ``""`` when it can."""
    if disk.image_format is ImageFormat.QCOW2:
        return "the pool computes no deltas of qcow2 disks"
    return "" if base.has_data else f"the data of snapshot {base.vdi_uuid} were purged"


def too_large(disk: DiskView) -> str:
    """Why no stream of the pool holds the disk; ``""`` when one does."""
    size = disk.virtual_size_bytes
    if size <= VHD_MAX_BYTES:
        return ""
    return f"a disk of {size >> 30} GiB is larger than the VHD of an export can be ({VHD_MAX_BYTES >> 30} GiB)"


def cbt_refusal(terms: Terms, disk: DiskView, base: PoolSnapshot) -> str:
    """Why the changes since ``base`` cannot be asked for, by what is known before the snapshot."""
    if terms.cbt is CbtUse.OFF:
        return "the job says cbt = off"
    if disk.cbt is None:
        return Why.OLD_HOST.value
    if not base.cbt:
        return Why.BASE_OFF.value
    return "" if disk.cbt else Why.LIVE_OFF.value


def only_by_cbt(terms: Terms, disk: DiskView, base: PoolSnapshot) -> str:
    """Why change tracking cannot give the delta where nothing else can; ``""`` when it can."""
    return terms.nbd_refusal or cbt_refusal(terms, disk, base)


def below(ladder: Ladder, trouble: Trouble, reason: str) -> Ladder | None:
    """The ladder after its first rung did not work; ``None`` when there is no rung it may lead to."""
    failed = ladder.first
    assert failed is not None
    rest = ladder.rungs[1:]
    left = tuple(via for via in rest if not _gone(via, trouble))
    if not left:
        return None
    if failed.delta and not left[0].delta and not ladder.only_cbt and trouble is not Trouble.DELTA:
        return None
    passed = [Passed(via=via, reason=reason) for via in (failed, *(via for via in rest if _gone(via, trouble)))]
    return replace(ladder, rungs=left, passed=(*ladder.passed, *passed))


def _gone(via: Via, trouble: Trouble) -> bool:
    return (trouble is Trouble.NBD and via.nbd) or (trouble is Trouble.DELTA and via.delta)


def told(passed: Iterable[Passed]) -> list[str]:
    """The reasons as sentences, rungs with the same one together."""
    by_reason: dict[str, list[str]] = {}
    for one in passed:
        by_reason.setdefault(one.reason, []).append(one.via.value)
    return [f"not {', '.join(vias)}: {reason}" for reason, vias in by_reason.items()]
