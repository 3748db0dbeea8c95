"""What each error says about the other ways to read a disk."""

import pytest

from vhd.errors import StreamError
from xobackup.engine.errors import TransferMismatch
from xobackup.engine.reading.ladder import Trouble, Via
from xobackup.engine.reading.streamed import KIND_OF_STREAM
from xobackup.engine.reading.tracked import CbtRefused
from xobackup.engine.reading.trouble import STEPPING, trouble_of
from xobackup.xapi.cbt import CbtRefusal, Why
from xobackup.xapi.errors import ConnectionLost, TransferBroken, TransferCancelled
from xobackup.xapi.failures import failure
from xobackup.xapi.nbd.errors import NbdCancelled, NbdLost, NbdNotOffered, NbdSizeMismatch, NbdTlsError
from xotest.views import a_snapshot

BASE = a_snapshot("base")
NOT_A_VHD = failure("INTERNAL_ERROR", ["base VDI is not a vhd; cannot compute differences"])
BASE_GONE = failure("HANDLE_INVALID", ["VDI", BASE.vdi_ref])
OTHER_GONE = failure("HANDLE_INVALID", ["VDI", "OpaqueRef:other"])
BROKEN = TransferBroken("export", "cut", transient=True)
TORN = StreamError("export", "ended inside the table")
WRONG_SIZE = TransferMismatch("virtual size", 1, 2)
WRONG_KIND = TransferMismatch(KIND_OF_STREAM, "differencing", "dynamic")
REFUSED = CbtRefused(CbtRefusal(why=Why.INCONSISTENT))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NbdLost("h", "cut"), (Trouble.NBD, Trouble.NBD, None, Trouble.NBD, None)),
        (NbdNotOffered("h", "none"), (Trouble.NBD, Trouble.NBD, None, Trouble.NBD, None)),
        (NbdTlsError("h", "another"), (Trouble.NBD, Trouble.NBD, None, Trouble.NBD, None)),
        (NbdSizeMismatch("h", expected_bytes=2, found_bytes=1), (Trouble.NBD, Trouble.NBD, None, Trouble.NBD, None)),
        (NOT_A_VHD, (Trouble.RUNG, Trouble.DELTA, Trouble.DELTA, Trouble.RUNG, None)),
        (BASE_GONE, (Trouble.RUNG, Trouble.DELTA, Trouble.DELTA, Trouble.RUNG, None)),
        (OTHER_GONE, (Trouble.RUNG, Trouble.RUNG, None, Trouble.RUNG, None)),
        (WRONG_KIND, (Trouble.RUNG, Trouble.DELTA, Trouble.DELTA, Trouble.RUNG, None)),
        (WRONG_SIZE, (Trouble.RUNG, Trouble.RUNG, None, Trouble.RUNG, None)),
        (BROKEN, (Trouble.RUNG, Trouble.RUNG, None, Trouble.RUNG, None)),
        (TORN, (Trouble.RUNG, Trouble.RUNG, None, Trouble.RUNG, None)),
        (REFUSED, (Trouble.RUNG,) * 5),
        (ConnectionLost("VDI.get_nbd_info", "gone"), (None,) * 5),
        (TransferCancelled("export"), (None,) * 5),
        (NbdCancelled("h"), (None,) * 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_error_says(error, expected) -> None:
    assert isinstance(error, STEPPING)
    assert tuple(trouble_of(error, via, BASE) for via in Via) == expected
