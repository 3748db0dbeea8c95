"""Names of objects: what every remote accepts, so that a name valid on one is valid on all.

Promise: :func:`validate` returns its argument unchanged or raises :class:`~remotes.errors.InvalidName`; a valid name
stays below the root of any storage, whatever is in it. Parts are at most 255 bytes and the whole at most 1024
bytes of UTF-8 (the limits of file systems and of S3). Names that are not UTF-8 on a file system arrive
surrogate-escaped, as Python's ``os`` gives them.
"""

from __future__ import annotations

import re
import secrets

from remotes.errors import InvalidName

PART_BYTES_MAX = 255
NAME_BYTES_MAX = 1024

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp", re.DOTALL)
_TEMPORARY_BASE_BYTES_MAX = 200


def validate(name: str, *, remote: str = "") -> str:
    """``name`` if it names an object or a directory below the root."""
    if not name:
        raise InvalidName(remote, name, "expected a name, found an empty string")
    problem = _problem(name)
    if problem:
        raise InvalidName(remote, name, problem)
    return name


def validate_directory(name: str, *, remote: str = "") -> str:
    """As :func:`validate`, and ``""`` is the root."""
    return name and validate(name, remote=remote)


def _problem(name: str) -> str | None:
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "the name cannot be encoded as UTF-8"
    if b"\0" in encoded:
        return "the name contains a NUL"
    if len(encoded) > NAME_BYTES_MAX:
        return f"expected at most {NAME_BYTES_MAX} bytes, found {len(encoded)}"
    if name.startswith("/"):
        return "expected a relative name, found a leading slash"
    for part in encoded.split(b"/"):
        if not part:
            return "the name has an empty part"
        if part in {b".", b".."}:
            return f"the name has the part {part.decode()!r}"
        if len(part) > PART_BYTES_MAX:
            return f"expected parts of at most {PART_BYTES_MAX} bytes, found {len(part)}"
    return None


def split(name: str) -> tuple[str, str]:
    """The directory (``""`` for the root) and the base name."""
    directory, _, base = name.rpartition("/")
    return directory, base


def join(directory: str, base: str) -> str:
    return f"{directory}/{base}" if directory else base


def temporary(base: str) -> str:
    """A fresh hidden name in the same directory for something not published yet."""
    short = base.encode("utf-8", "surrogateescape")[:_TEMPORARY_BASE_BYTES_MAX].decode("utf-8", "ignore")
    return f".{short}.{secrets.token_hex(8)}.tmp"


def is_temporary(base: str) -> bool:
    """Whether a crash of somebody's ``put`` may have left this base name."""
    return _TEMPORARY.fullmatch(base) is not None
