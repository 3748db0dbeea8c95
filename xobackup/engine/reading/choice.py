"""The source for each rung."""

from __future__ import annotations

from xobackup.engine.reading.full import NbdFull
from xobackup.engine.reading.ladder import Via
from xobackup.engine.reading.listed import Listed
from xobackup.engine.reading.source import Source, Subject
from xobackup.engine.reading.streamed import Streamed
from xobackup.engine.reading.tracked import Tracked


def source_of(via: Via, subject: Subject) -> Source:
    """How ``subject`` is read on that rung."""
    match via:
        case Via.CBT:
            return Tracked(subject)
        case Via.LISTED:
            return Listed(subject)
        case Via.NBD_FULL:
            return NbdFull(subject)
        case Via.STREAM_DELTA | Via.STREAM_FULL:
            return Streamed(subject, delta=via.delta)
