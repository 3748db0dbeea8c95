"""Which failures of a VM's attempt are worth another one, and how long to wait before it: pure.

An attempt begins with a look at the pool and cleans up after itself, so doing it again is never blind. It is
pointless where somebody has to act first (docs/errors.md: *operator*), where the engine has decided (a refusal, no
room), and where the program is wrong. A storage or network in the way, a stream that broke, a host that stumbled,
an object that vanished: those may pass.
"""

from __future__ import annotations

import errno

from vhd.errors import VhdError
from xobackup.engine.errors import AllSinksFailed, BadArchive, Cancelled, TransferMismatch
from xobackup.repository.errors import LockHeld, LockLost
from xobackup.xapi import errors as xapi
from xobackup.xapi.failure_table import ACTION_OF, Action
from xobackup.xva.errors import XvaError

PAUSE_MAX_S = 600.0
"""However many attempts there are."""
_STOPPED = (Cancelled, xapi.Cancelled, xapi.TransferCancelled)
_BROKEN = (xapi.TransferError, xapi.OutcomeUnknown, xapi.TaskTimeout, xapi.ProtocolError)
_NOT_WHOLE = (TransferMismatch, BadArchive, VhdError, XvaError)
_LOCKS = (LockHeld, LockLost)
_FINAL_ACTIONS = (Action.OPERATOR, Action.PROBE, Action.OURS)
_FINAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def may_pass(error: BaseException) -> bool:
    """Whether what went wrong may be gone at another attempt."""
    if isinstance(error, _STOPPED):
        return False
    if isinstance(error, AllSinksFailed):
        return any(may_pass(one) for one in error.failures.values())
    if getattr(error, "transient", False):
        return True
    if isinstance(error, xapi.XapiFailure):
        return _action(error) not in _FINAL_ACTIONS
    if isinstance(error, OSError):
        return error.errno not in _FINAL_ERRNOS
    return isinstance(error, (*_BROKEN, *_NOT_WHOLE, *_LOCKS))


def _action(error: xapi.XapiFailure) -> Action:
    return next(ACTION_OF[cls] for cls in type(error).__mro__ if cls in ACTION_OF)


def pause_s(attempt: int, base_s: float) -> float:
    """How long to wait after the failed ``attempt`` (from 1): twice as long each time, bounded."""
    doubled: float = base_s * 2.0 ** min(attempt - 1, 32)
    return min(doubled, max(PAUSE_MAX_S, base_s))
