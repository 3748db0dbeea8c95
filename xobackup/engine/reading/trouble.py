"""What an error on a rung says about the others: pure. ``None``: it is no matter of the way, and fails the VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.errors import VhdError
from xobackup.engine.errors import TransferMismatch
from xobackup.engine.reading.ladder import Trouble, Via
from xobackup.engine.reading.streamed import KIND_OF_STREAM
from xobackup.engine.reading.tracked import CbtRefused
from xobackup.xapi.errors import (
    BadRecord,
    Cancelled,
    ProtocolError,
    TransferCancelled,
    TransferError,
    XapiError,
    XapiFailure,
)
from xobackup.xapi.failures import full_needed
from xobackup.xapi.nbd.errors import NbdCancelled, NbdError

if TYPE_CHECKING:
    from xobackup.engine.view import PoolSnapshot

STEPPING = (XapiError, TransferMismatch, CbtRefused, VhdError)
"""What may lead to another rung; the sinks' own errors never come out of a transfer as these."""
_STOPPED = (TransferCancelled, NbdCancelled, Cancelled)
_OF_THE_RUNG = (XapiFailure, TransferError, TransferMismatch, ProtocolError, BadRecord, VhdError)


def trouble_of(error: Exception, via: Via, base: PoolSnapshot | None) -> Trouble | None:
    """See the module's head. ``base``: what the delta continues."""
    if isinstance(error, _STOPPED):
        return None
    if isinstance(error, NbdError):
        return Trouble.NBD if via.nbd else None
    if isinstance(error, CbtRefused):
        return Trouble.RUNG
    if via.delta and via is not Via.CBT and _delta_impossible(error, base):
        return Trouble.DELTA
    if via.nbd and isinstance(error, _OF_THE_RUNG):
        return Trouble.RUNG
    return None


def _delta_impossible(error: Exception, base: PoolSnapshot | None) -> bool:
    """Whether the pool refuses the delta but would give a full."""
    if isinstance(error, TransferMismatch):
        return error.what == KIND_OF_STREAM
    names = (base.vdi_ref, base.vdi_uuid) if base is not None else ()
    return isinstance(error, XapiError) and full_needed(error, base=names)
