"""What a run has to read the disks of one pool with: asked once, when the pool is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xobackup.engine.reading.ladder import STREAMS, NbdUse, Terms
from xobackup.engine.reading.slots import NbdSlots
from xobackup.xapi.errors import BadRecord
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import NbdMode, nbd_mode
from xobackup.xapi.vm_records import NetworkRecord

if TYPE_CHECKING:
    from xobackup.engine.job import Settings
    from xobackup.xapi.session import Session

PLAIN_REFUSED = "its networks have the purpose insecure_nbd only, and the job does not say nbd_plain_allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """``slots`` is shared by all disks of the pool."""

    terms: Terms = STREAMS
    nbd: NbdOptions = field(default_factory=NbdOptions)
    slots: NbdSlots = field(default_factory=NbdSlots)


def means_of(session: Session, settings: Settings) -> Means:
    """Look at the pool's networks, unless the job wants no NBD."""
    problem, plain = "", False
    if settings.nbd is not NbdUse.OFF:
        try:
            networks = [NetworkRecord.parse(ref, raw) for ref, raw in session.records("network").items()]
            mode = nbd_mode(networks)
            problem = nbd_problem(mode, plain_allowed=settings.nbd_plain_allowed)
            plain = mode is NbdMode.PLAIN and settings.nbd_plain_allowed  # never where the pool says TLS
        except BadRecord as error:
            problem = str(error)
    return Means(
        terms=Terms(nbd=settings.nbd, cbt=settings.cbt, nbd_problem=problem),
        nbd=NbdOptions(connections=settings.nbd_connections, plain_allowed=plain),
    )


def nbd_problem(mode: NbdMode, *, plain_allowed: bool) -> str:
    """Why the pool's servers cannot be used, ``""`` when they can."""
    if mode is NbdMode.TLS or (mode is NbdMode.PLAIN and plain_allowed):
        return ""
    return PLAIN_REFUSED if mode is NbdMode.PLAIN else mode.value
