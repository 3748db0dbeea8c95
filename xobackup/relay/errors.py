"""What goes wrong between a worker and a relay, and errors of remotes as they travel.

RelayError
├── LineLost     the connection does not come about, or ended; another one may do
├── BadFrame     the other side sent what cannot be
└── Refused      the relay does not do it; ``transient``: not now

An error of a remote arrives as what it was there, named by the url that the reader knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remotes import errors

TEXT_MAX = 2000


class RelayError(Exception):
    """Root."""


class LineLost(RelayError):
    """``peer``: whose line it was."""

    def __init__(self, peer: str, problem: str) -> None:
        self.peer = peer
        self.problem = problem
        super().__init__(f"relay {peer}: {problem}")


class BadFrame(RelayError):
    """What came is no frame of ours."""


class Refused(RelayError):
    """The relay does not give it."""

    def __init__(self, problem: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(problem)


Builder = Callable[[str, str, Mapping[str, Any]], errors.RemoteError]


def _said(data: Mapping[str, Any], key: str = "problem") -> str:
    return str(data.get(key) or "")[:TEXT_MAX]


def _hint(data: Mapping[str, Any]) -> str | None:
    return _said(data, "hint") or None


def _count(data: Mapping[str, Any], key: str) -> int:
    found = data.get(key)
    return found if isinstance(found, int) else 0


_BUILDERS: dict[str, Builder] = {
    "NotFound": lambda url, name, _: errors.NotFound(url, name),
    "NotADirectory": lambda url, name, _: errors.NotADirectory(url, name),
    "IsADirectory": lambda url, name, _: errors.IsADirectory(url, name),
    "InvalidName": lambda url, name, data: errors.InvalidName(url, name, _said(data)),
    "NotSupported": lambda url, name, data: errors.NotSupported(url, name, _said(data)),
    "AccessDenied": lambda url, name, data: errors.AccessDenied(url, name, _said(data), hint=_hint(data)),
    "Corrupt": lambda url, name, data: errors.Corrupt(url, name, _said(data)),
    "KeyRefused": lambda url, _, data: errors.KeyRefused(url, _said(data), hint=_hint(data)),
    "NoAnswer": lambda url, name, data: errors.NoAnswer(url, name, _said(data)),
    "TooLarge": lambda url, name, data: errors.TooLarge(
        url, name, limit_bytes=_count(data, "limit_bytes"), found_bytes=_count(data, "found_bytes")
    ),
}
"""Every kind that reading can raise; what is not here comes as :class:`~remotes.errors.Unavailable`."""


def error_data(error: errors.RemoteError) -> dict[str, Any]:
    """For the way."""
    told: dict[str, Any] = {"class": type(error).__name__, "name": error.name, "problem": error.problem}
    told |= {"hint": error.hint or "", "transient": error.transient}
    if isinstance(error, errors.TooLarge):
        told |= {"limit_bytes": error.limit_bytes, "found_bytes": error.found_bytes}
    return told


def read_error(data: Mapping[str, Any], url: str) -> errors.RemoteError:
    """What :func:`error_data` was made of; of a kind that is not known here as unavailable."""
    name = _said(data, "name")
    build = _BUILDERS.get(_said(data, "class"))
    if build is not None:
        return build(url, name, data)
    return errors.Unavailable(url, name, _said(data), transient=data.get("transient") is True, hint=_hint(data))
