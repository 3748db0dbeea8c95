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
    code = _exit_code(error)
    if code is None:
        return _unexpected(error)
    hint = getattr(error, "hint", None) or _hint(error)
    return Failure(message=str(error), hint=hint, exit_code=code)


def _exit_code(error: Exception) -> Exit | None:
    explicit = getattr(error, "exit_code", None)
    if isinstance(explicit, int):
        return Exit(explicit)
    if isinstance(error, (ConfigError, remote_errors.InvalidUrl, remote_errors.InvalidName)):
        return Exit.USAGE
    if isinstance(error, VhdError):
        return Exit.DAMAGE
    if isinstance(error, remote_errors.Unavailable):
        return Exit.UNREACHABLE
    if isinstance(error, (remote_errors.RemoteError, OSError)):
        return Exit.FAILED
    return _room_exit_code(error)


def _room_exit_code(error: Exception) -> Exit | None:
    from xobackup.engine.errors import EngineError
    from xobackup.repository.errors import RepositoryError
    from xobackup.xapi.errors import TransportError, XapiError

    if isinstance(error, TransportError):
        return Exit.UNREACHABLE
    if isinstance(error, (XapiError, RepositoryError, EngineError)):
        return Exit.FAILED
    return None


def _hint(error: Exception) -> str | None:
    if isinstance(error, remote_errors.NoSpace):
        return "free some space, or lower the retention and run `xobackup merge`"
    if isinstance(error, remote_errors.ReadOnly):
        return "remount the storage read-write"
    if isinstance(error, remote_errors.AccessDenied):
        return "run as a user who may write there, or change the owner"
    return None


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
