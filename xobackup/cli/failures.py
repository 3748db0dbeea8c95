"""From an error of any room to what the operator reads: a sentence, a hint, an exit code.

Only imported when something failed.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from remotes import errors as remote_errors
from vhd.errors import VhdError
from xobackup.cli.exits import Exit
from xobackup.config.errors import ConfigError
from xobackup.xva.errors import XvaError

DEBUG_VARIABLE = "XOBACKUP_DEBUG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What to tell, and with which code to end."""

    message: str
    hint: str | None
    exit_code: Exit


def explain(error: Exception) -> Failure:
    """The operator's view of ``error``; with ``XOBACKUP_DEBUG`` set its traceback is printed as well."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    code = exit_code_of(error)
    if code is None:
        return _unexpected(error)
    return Failure(message=str(error), hint=hint_of(error), exit_code=code)


def exit_code_of(error: BaseException) -> Exit | None:
    """The exit code that ``error`` means, ``None`` for one that nobody foresaw."""
    explicit = getattr(error, "exit_code", None)
    if isinstance(explicit, int):
        return Exit(explicit)
    if isinstance(
        error, (ConfigError, remote_errors.InvalidUrl, remote_errors.InvalidName, remote_errors.KeyRefused)
    ):
        return Exit.USAGE
    if isinstance(error, (VhdError, XvaError, remote_errors.Corrupt)):
        return Exit.DAMAGE
    if isinstance(error, remote_errors.Unavailable):
        return Exit.UNREACHABLE
    if isinstance(error, (remote_errors.RemoteError, OSError)):
        return Exit.FAILED
    return _room_exit_code(error)


def _room_exit_code(error: BaseException) -> Exit | None:
    from xobackup.engine import errors as engine
    from xobackup.history import errors as history
    from xobackup.own import errors as own
    from xobackup.repository import errors as repository
    from xobackup.workers import errors as workers
    from xobackup.xapi import errors as xapi

    meanings: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
        ((xapi.AddressError, engine.UsageError), Exit.USAGE),
        ((xapi.TransportError, xapi.TlsError, xapi.LoginError), Exit.UNREACHABLE),
        ((history.HistoryUnavailable, workers.BoardUnavailable), Exit.UNREACHABLE),
        ((own.Damaged,), Exit.DAMAGE),
        ((own.OwnError,), Exit.FAILED),
        ((repository.LockHeld, engine.RunLocked), Exit.LOCKED),
        ((repository.BadMetadata, repository.BadDigests, engine.IntegrityError), Exit.DAMAGE),
        ((xapi.XapiError, repository.RepositoryError, engine.EngineError, history.HistoryError), Exit.FAILED),
        ((workers.WorkersError,), Exit.FAILED),
    )
    return next((code for kinds, code in meanings if isinstance(error, kinds)), None)


def hint_of(error: BaseException) -> str | None:
    """What can be done about ``error``: its own hint, else ours."""
    from xobackup.repository.errors import Encrypted, LockHeld

    own = getattr(error, "hint", None)
    if own:
        return str(own)
    hints: tuple[tuple[type[Exception], str], ...] = (
        (remote_errors.NoSpace, "free some space, or lower the retention and run `xobackup merge`"),
        (remote_errors.ReadOnly, "remount the storage read-write"),
        (remote_errors.AccessDenied, "run as a user who may use it, or change the owner"),
        (remote_errors.Unavailable, "is the storage mounted? A new repository needs its directory to be made first"),
        (LockHeld, "wait until the other one is done; a lock is stale ten seconds after its holder died"),
        (Encrypted, 'give its key: [remotes.NAME] encryption = { key = { file = "/path" } }'),
    )
    return next((hint for kind, hint in hints if isinstance(error, kind)), None)


def _unexpected(error: Exception) -> Failure:
    """A bug of ours: keep the traceback where it can be attached to a report."""
    text = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile("w", prefix="xobackup-crash-", suffix=".txt", delete=False) as file:
        file.write(text)
    path = Path(file.name)
    return Failure(
        message=f"internal error: {type(error).__name__}: {error}",
        hint=f"this is a bug of xobackup; the traceback is in {path}",
        exit_code=Exit.FAILED,
    )


def foreseen() -> tuple[type[Exception], ...]:
    """The trees of errors whose sentences are meant for the operator; whatever else is a bug."""
    from xobackup.cli.errors import NotThere, Outcome
    from xobackup.engine.errors import EngineError
    from xobackup.history.errors import HistoryError
    from xobackup.repository.errors import RepositoryError
    from xobackup.workers.errors import WorkersError
    from xobackup.xapi.errors import XapiError

    return (
        ConfigError, NotThere, Outcome, VhdError, XvaError, remote_errors.RemoteError, remote_errors.InvalidUrl,
        remote_errors.InvalidName, RepositoryError, XapiError, EngineError, HistoryError, WorkersError, OSError,
    )  # fmt: skip
