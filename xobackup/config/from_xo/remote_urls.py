"""Xen Orchestra's URLs of remotes, taken apart as its own parser does (packages/xo-remote-parser).

    file:///path?options                              the first slash may be missing
    nfs://host:[port:]/path?options                   the same; nothing is percent-encoded
    smb://user:password@DOMAIN\\\\host\\share<NUL>dir\\sub?options     nothing is percent-encoded
    s3://KEY:SECRET@host/bucket/dir?options#region    percent-encoded; s3+http without TLS
    azure://account:key@host/container/dir?options    azurite, azurite+http

Option values are JSON, percent-encoded; an empty one means false.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

_SMB = re.compile(r"([^:]+):(.+)@([^@]+)\\\\([^\0?]+)(?:\0([^?]*))?", re.DOTALL)
_NFS = re.compile(r"(\[[^\]]*\]|[^:/]+):(?:(\d+):)?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class XoUrl:
    """What a URL says. ``scheme`` as it was written, in small letters."""

    scheme: str
    host: str = ""
    port: str = ""
    path: str = ""
    """Without encoding; of ``smb`` what follows the share, with slashes."""
    share: str = ""
    domain: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    region: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)


class BadUrl(ValueError):
    """The message shows nothing secret."""


def parse_xo_url(text: str) -> XoUrl:
    """Take ``text`` apart. Raises :class:`BadUrl`."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    reader = _READERS.get(scheme)
    if not separator or reader is None:
        known = ", ".join(_READERS)
        raise BadUrl(f"expected a URL of one of the kinds {known}")
    return reader(scheme, rest)


def _file(scheme: str, rest: str) -> XoUrl:
    path, _, query = rest.partition("?")
    return XoUrl(scheme=scheme, path="/" + path.lstrip("/"), options=_options(query))


def _nfs(scheme: str, rest: str) -> XoUrl:
    body, _, query = rest.partition("?")
    match = _NFS.fullmatch(body)
    if match is None:
        raise BadUrl("expected nfs://host:/path")
    path = "/" + match[3].lstrip("/")
    return XoUrl(scheme=scheme, host=match[1], port=match[2] or "", path=path, options=_options(query))


def _smb(scheme: str, rest: str) -> XoUrl:
    body, _, query = rest.partition("?")
    match = _SMB.fullmatch(body)
    if match is None:
        raise BadUrl(r"expected smb://user:password@domain\\host\share")
    host, _, share = match[4].replace("/", "\\").partition("\\")
    return XoUrl(
        scheme=scheme,
        host=host,
        share=share.strip("\\").replace("\\", "/"),
        path=(match[5] or "").replace("\\", "/").strip("/"),
        domain=match[3],
        username=match[1],
        password=match[2],
        options=_options(query),
    )


def _bucket(scheme: str, rest: str) -> XoUrl:
    rest, _, region = rest.partition("#")
    body, _, query = rest.partition("?")
    authority, _, path = body.partition("/")
    keys, _, host = authority.rpartition("@")
    username, _, password = keys.partition(":")
    if not host or "@" in path:
        raise BadUrl(f"expected {scheme}://key:secret@host/path, with the secret percent-encoded")
    return XoUrl(
        scheme=scheme,
        host=host,
        path=unquote(path),
        username=unquote(username),
        password=unquote(password),
        region=unquote(region),
        options=_options(query),
    )


_READERS = {
    "file": _file,
    "nfs": _nfs,
    "smb": _smb,
    "s3": _bucket,
    "s3+http": _bucket,
    "azure": _bucket,
    "azurite": _bucket,
    "azurite+http": _bucket,
}


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise BadUrl("more than a hundred options") from None
    for key, value in pairs:
        try:
            found[key] = json.loads(value) if value else False
        except (ValueError, RecursionError):
            found[key] = value
    return found
