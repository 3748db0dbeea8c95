"""NFS by URL: what a URL means for ``mount``. Pure; :mod:`remotes.mounted` does it.

    nfs://host[:port]:/export/path?option=value     Xen Orchestra's form
    nfs://host[:port]/export/path?option=value      the same without the second colon

Options are JSON, as in every remote's URL. Those of the mount:

    vers       4.2, 4.1, 4, 3      default: what client and server agree on
    proto      "tcp", "udp", "rdma"
    sec        "sys", "krb5", "krb5i", "krb5p"
    soft       true: give up after timeo and retrans (default); false: wait for ever
    timeo      tenths of a second until a request is repeated   default 600
    retrans    how often                                        default 2
    nconnect   connections
    options    any other text for ``mount -o``

A soft mount loses nothing here: whatever was not confirmed by ``fsync`` counts as not written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remotes.errors import InvalidUrl

_ADDRESS = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?:?(?P<path>/.*)", re.DOTALL
)
_CHOICES: dict[str, tuple[str, ...]] = {
    "vers": ("3", "4", "4.0", "4.1", "4.2"),
    "proto": ("tcp", "udp", "rdma", "tcp6", "udp6", "rdma6"),
    "sec": ("sys", "krb5", "krb5i", "krb5p", "none"),
}
_NUMBERS = {"timeo": (1, 100_000), "retrans": (0, 100), "nconnect": (1, 16)}
_DEFAULTS: dict[str, Any] = {"soft": True, "timeo": 600, "retrans": 2}
MOUNT_OPTIONS = frozenset({*_CHOICES, *_NUMBERS, "soft", "options"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsAddress:
    """A server's export."""

    host: str
    """A name or an address; IPv6 in brackets."""
    port: int | None
    path: str
    """Absolute, on the server."""

    @property
    def source(self) -> str:
        """As ``mount`` wants it."""
        return f"{self.host}:{self.path}"

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"nfs://{self.host}{port}:{self.path}"


def parse_address(text: str, shown: str) -> NfsAddress:
    """``//host[:port][:]/path``, decoded. ``shown`` is the URL for messages."""
    match = _ADDRESS.fullmatch(text.removeprefix("//"))
    if match is None:
        raise InvalidUrl(shown, "", f"expected nfs://host:/path or nfs://host:port:/path, found {text!r}")
    path, port = match["path"], match["port"]
    if "\0" in path or "\n" in path:
        raise InvalidUrl(shown, "", "the path contains a NUL or a line break")
    if ".." in path.split("/"):
        raise InvalidUrl(shown, "", f"expected a path without '..', found {path!r}")
    if port is not None and not 1 <= int(port) <= 65535:
        raise InvalidUrl(shown, "", f"expected a port from 1 to 65535, found {port}")
    return NfsAddress(host=match["host"], port=int(port) if port else None, path=path.rstrip("/") or "/")


def mount_options(address: NfsAddress, options: Mapping[str, Any], shown: str) -> str:
    """The text for ``mount -o``. Options of others (``useVhdDirectory``) are passed over."""
    given = {**_DEFAULTS, **{key: value for key, value in options.items() if key in MOUNT_OPTIONS}}
    pieces: list[str] = []
    for key, known in _CHOICES.items():
        if key in given:
            value = str(given[key])
            if isinstance(given[key], bool) or value not in known:
                raise InvalidUrl(
                    shown, "", f"the option {key!r}: expected one of {', '.join(known)}, found {value!r}"
                )
            pieces.append(f"{key}={value}")
    if not isinstance(given["soft"], bool):
        raise InvalidUrl(shown, "", f"the option 'soft': expected true or false, found {given['soft']!r}")
    pieces.append("soft" if given["soft"] else "hard")
    for key, (low, high) in _NUMBERS.items():
        if key in given:
            value = given[key]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                problem = f"the option {key!r}: expected a whole number from {low} to {high}, found {value!r}"
                raise InvalidUrl(shown, "", problem)
            pieces.append(f"{key}={value}")
    if address.port:
        pieces.append(f"port={address.port}")
    extra = given.get("options", "")
    if not isinstance(extra, str) or re.search(r"[\s\0]", extra) or extra.startswith("-"):
        raise InvalidUrl(
            shown, "", f"the option 'options': expected text for mount -o without spaces, found {extra!r}"
        )
    return ",".join([*pieces, *([extra] if extra else [])])
