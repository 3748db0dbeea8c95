"""The directory through which files come to commands that were ordered by the API, and from them.

A request names a file, never a path: the name has no slash and does not begin with a dot. The directory is one of its
own, nobody but the service's user and root may change it, and what lies there under the name is a file, not a link to
one: so no request reaches any other file of this machine.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from xobackup.cli.errors import NotThere

if TYPE_CHECKING:
    from xobackup.config.model import Configuration

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@ -]{0,199}")


class NotExchanged(NotThere):
    """No command gets this file."""


def place(configuration: Configuration, name: str, *, to_read: bool) -> Path:
    """Where the file of that name is; it has to be there ``to_read`` it. Raises :class:`NotExchanged`."""
    directory = _directory(configuration)
    if not NAME.fullmatch(name):
        raise NotExchanged(f"expected the name of a file in {directory}, found {name!r}")
    path = directory / name
    try:
        found = path.lstat()
    except FileNotFoundError:
        if to_read:
            raise NotExchanged(f"there is no file {name!r} in {directory}") from None
        return path
    except OSError as error:
        raise NotExchanged(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise NotExchanged(f"{path}: expected a file, found a link or something else")
    return path


def open_file(configuration: Configuration, name: str) -> BinaryIO:
    """That file, to be read. Raises :class:`NotExchanged`, ``OSError``."""
    path = place(configuration, name, to_read=True)
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _directory(configuration: Configuration) -> Path:
    directory = configuration.web.exchange
    if directory is None:
        raise NotExchanged(
            "requests may name no files: there is no directory for them", hint='[web] exchange = "/path" names one'
        )
    try:
        found = directory.lstat()
    except OSError as error:
        raise NotExchanged(f"[web] exchange: {directory}: {error.strerror}", hint="make that directory") from error
    if not stat.S_ISDIR(found.st_mode):
        raise NotExchanged(f"[web] exchange: {directory}: expected a directory")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise NotExchanged(
            f"[web] exchange: {directory}: others may change it", hint=f"chmod go-w {directory}, or chown it"
        )
    if directory.resolve() == configuration.state_directory.resolve():
        raise NotExchanged(f"[web] exchange: {directory}: the state directory is not for this", hint="use another")
    return directory
