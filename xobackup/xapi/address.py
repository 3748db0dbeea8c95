"""Where a pool is and who we are there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from xobackup.xapi.errors import AddressError
from xobackup.xapi.timeouts import Timeouts
from xobackup.xapi.tls import SystemCa, TlsPolicy, Unverified

_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"[0-9A-Fa-f.:]*:[0-9A-Za-z.:%]*|[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,31}\.?")
"""IPv6, or a name or IPv4 whose parts the resolver can take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One host's HTTP server."""

    secure: bool
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host[:port]`` as in a URL and a Host header."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == _PORTS["https" if self.secure else "http"] else f"{shown}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    def at(self, address: str) -> Endpoint:
        """The same service on another host, named as in HOST_IS_SLAVE: IPv4, IPv6 or name, maybe with a port."""
        text = address.strip()
        if text.count(":") > 1 and not text.startswith("["):
            text = f"[{text}]"
        other = parse_endpoint(f"{'https' if self.secure else 'http'}://{text}")
        has_port = re.search(r":\d+$", text.rpartition("]")[2]) is not None
        return other if has_port else Endpoint(secure=self.secure, host=other.host, port=self.port)


def parse_endpoint(url: str) -> Endpoint:
    """``https://host[:port]``, or only ``host[:port]``."""
    text = url.strip()
    if "://" not in text:
        text = "https://" + text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise AddressError(_shown(url), f"not a URL: {error}") from error
    if parts.scheme not in _PORTS:
        raise AddressError(_shown(url), f"expected https:// (or http://), found {parts.scheme}://")
    if parts.username is not None or parts.password is not None:
        raise AddressError(_shown(url), "user and password do not belong into the URL")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise AddressError(_shown(url), "it names no host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise AddressError(_shown(url), "only scheme, host and port are allowed")
    return Endpoint(secure=parts.scheme == "https", host=parts.hostname, port=port or _PORTS[parts.scheme])


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAddress:
    """A pool: any of its hosts will do, the session goes on to the master."""

    url: str
    username: str
    password: str = field(repr=False)
    tls: TlsPolicy = field(default_factory=SystemCa)
    timeouts: Timeouts = field(default_factory=Timeouts)

    def endpoint(self) -> Endpoint:
        """The address parsed; plain HTTP only when nothing is to be verified anyway."""
        endpoint = parse_endpoint(self.url)
        if not endpoint.secure and not isinstance(self.tls, Unverified):
            raise AddressError(_shown(self.url), "plain http:// would show the password to everybody; use https://")
        return endpoint


def _shown(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)
