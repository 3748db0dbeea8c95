"""Only what may pass is tried again."""

import errno

import pytest

from remotes.errors import AccessDenied, NoSpace, Unavailable
from vhd.errors import StreamError
from xobackup.engine.errors import AllSinksFailed, Cancelled, NoRoom, RunLocked, VmRefused
from xobackup.engine.turns.retry import PAUSE_MAX_S, may_pass, pause_s
from xobackup.xapi.errors import ConnectionLost, TlsError, TransferBroken, TransferCancelled
from xobackup.xapi.failures import failure

GONE = Unavailable("file:///nas", "x", "unplugged", transient=True)
FULL = NoSpace("file:///nas", "x", "no space left")


@pytest.mark.parametrize(
    "error",
    [
        failure("VDI_IN_USE", ["OpaqueRef:x", "snapshot"]),
        failure("INTERNAL_ERROR", ["boom"]),
        failure("HANDLE_INVALID", ["VDI", "OpaqueRef:x"]),
        failure("SOMETHING_NEW", []),
        ConnectionLost("host", "reset"),
        TransferBroken("export", "it broke"),
        StreamError("export", "cut off"),
        RunLocked("somebody else"),
        VmRefused("it is being migrated", transient=True),
        AllSinksFailed("vm", {"nas": GONE, "off-site": FULL}),
        OSError(errno.EIO, "input/output error"),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        failure("SR_BACKEND_FAILURE_44", ["", "no space", ""]),
        failure("SR_BACKEND_FAILURE_109", ["", "The snapshot chain is too long", ""]),
        failure("RBAC_PERMISSION_DENIED", ["p", "no"]),
        failure("SESSION_AUTHENTICATION_FAILED", ["root"]),
        failure("TASK_CANCELLED", ["OpaqueRef:x"]),
        failure("MESSAGE_METHOD_UNKNOWN", ["VM.nonsense"]),
        VmRefused("a disk is missing"),
        NoRoom("nas: too small"),
        Cancelled("stopped by SIGTERM"),
        TransferCancelled("export"),
        TlsError("host", "another certificate"),
        AllSinksFailed("vm", {"nas": FULL, "off-site": AccessDenied("file:///off", "x", "no")}),
        OSError(errno.ENOSPC, "no space left on device"),
        KeyError("a bug"),
    ],
)
def test_what_somebody_has_to_act_on_is_not(error: Exception) -> None:
    assert not may_pass(error)


def test_pauses_double_up_to_a_bound() -> None:
    assert [pause_s(number, 30) for number in (1, 2, 3)] == [30, 60, 120]
    assert pause_s(10**9, 30) == PAUSE_MAX_S
    assert pause_s(3, 0) == 0 and pause_s(1, 1800) == 1800
