"""Remote URLs, in Xen Orchestra's form: ``file:///path?useVhdDirectory=true&encryptionKey=%22...%22``.

Option values are JSON, percent-encoded. A plain absolute path is a ``file`` URL without options; ``nfs:`` is mounted
(:mod:`remotes.nfs`); ``memory:`` is a fresh remote in this process, for trials; what ``s3:`` URLs say is in
:mod:`remotes.s3.address`. Parsing raises
:class:`~remotes.errors.InvalidUrl` and names the piece that is wrong; no message and no ``redacted`` form ever shows
a secret.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from remotes import nfs
from remotes.contract import Remote
from remotes.errors import InvalidUrl, NotSupported, Unavailable
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from remotes.mounted import MountedRemote
from remotes.mounts import mount_of, mounted_at
from remotes.s3.address import S3Address, parse_address
from remotes.watched import TIMEOUT_S, WatchedRemote

if TYPE_CHECKING:
    from remotes.s3.locking import ObjectLock

SECRET_OPTIONS = frozenset({"encryptionKey", "password", "secret", "secretKey", "sessionToken"})
REDACTED = "***"


class UrlKind(StrEnum):
    FILE = "file"
    MEMORY = "memory"
    NFS = "nfs"
    SMB = "smb"
    S3 = "s3"
    AZURE = "azure"


_SCHEMES = {
    "file": UrlKind.FILE,
    "memory": UrlKind.MEMORY,
    "nfs": UrlKind.NFS,
    "smb": UrlKind.SMB,
    "s3": UrlKind.S3,
    "s3+http": UrlKind.S3,
    "azure": UrlKind.AZURE,
    "azurite": UrlKind.AZURE,
    "azurite+http": UrlKind.AZURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteUrl:
    """A parsed URL. ``options`` keep their JSON values."""

    kind: UrlKind
    path: str
    """Of a ``file``: absolute; of ``s3``: bucket and directory. Of the others: what follows the scheme, secrets
    included."""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    redacted: str
    """The URL for messages and logs."""
    s3: S3Address | None = field(default=None, repr=False)
    """Of an ``s3:`` URL."""

    def __str__(self) -> str:
        return self.redacted


def parse_url(text: str) -> RemoteUrl:
    """Understand a URL or an absolute path."""
    if text.startswith("/"):
        return RemoteUrl(kind=UrlKind.FILE, path=_absolute(text, text), redacted=f"file://{text}")
    scheme, colon, rest = text.partition(":")
    kind = _SCHEMES.get(scheme.lower())
    if not colon or kind is None:
        shown = f"{scheme}:" if colon and scheme.isalnum() else "it"
        known = ", ".join(f"{each}:" for each in _SCHEMES)
        raise InvalidUrl("", "", f"expected an absolute path or a URL that starts with one of {known}; found {shown}")
    if kind is UrlKind.S3:
        return _s3(scheme, rest)
    if kind not in {UrlKind.FILE, UrlKind.MEMORY, UrlKind.NFS}:
        return RemoteUrl(kind=kind, path=rest, redacted=_redact_authority(scheme, rest))
    body, _, query = rest.partition("?")
    shown = f"{scheme}:{body}"
    options = _options(query, shown)
    path = unquote(body.removeprefix("//"))
    if kind is UrlKind.FILE:
        path = _absolute(path, shown)
    elif kind is UrlKind.NFS:
        nfs.mount_options(nfs.parse_address(path, shown), options, shown)  # refuses what cannot be mounted
    return RemoteUrl(kind=kind, path=path, options=options, redacted=shown + _redacted_query(options))


def open_remote(url: str | RemoteUrl, *, create_root: bool = False, lock: ObjectLock | None = None) -> Remote:
    """The remote a URL names. The options are the caller's to honour; those that need an absent feature are not.
    ``lock``: for buckets only, see :mod:`remotes.s3.locking`."""
    parsed = parse_url(url) if isinstance(url, str) else url
    if parsed.kind is UrlKind.FILE:
        guard = _mount_guard(parsed)
        network = (mount := mount_of(parsed.path)) is not None and mount.network
        return _opened(
            parsed, lambda: LocalRemote(parsed.path, create_root=create_root, guard=guard), watched=network
        )
    if parsed.kind is UrlKind.NFS:
        address = nfs.parse_address(parsed.path, parsed.redacted)
        options = nfs.mount_options(address, parsed.options, parsed.redacted)
        return _opened(
            parsed,
            lambda: MountedRemote(source=address.source, kind="nfs4", options=options, shown=str(address)),
            watched=True,
        )
    if parsed.kind is UrlKind.MEMORY:
        return MemoryRemote(label=parsed.path)
    if parsed.s3 is not None:
        from remotes.s3.remote import S3Remote  # boto3 takes its time to start: only who needs it waits

        return S3Remote.connect(parsed.s3, lock)
    raise NotSupported(
        parsed.redacted, "", f"remotes of the kind {parsed.kind} are not supported yet; {_advice(parsed)}"
    )


def _opened(url: RemoteUrl, opening: Callable[[], Remote], *, watched: bool) -> Remote:
    """Calls to another machine's disk may have to be abandoned: after ``ioTimeout`` seconds."""
    timeout_s = url.options.get("ioTimeout", TIMEOUT_S)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or timeout_s <= 0:
        raise InvalidUrl(url.redacted, "", f"the option 'ioTimeout': expected seconds above 0, found {timeout_s!r}")
    return WatchedRemote(opening, shown=url.redacted, timeout_s=timeout_s) if watched else opening()


def _mount_guard(url: RemoteUrl) -> Callable[[], None]:
    """``mounted=true``: the path must be a mount point; ``mounted="/mnt/nas"``: that directory above it must be."""
    expected = url.options.get("mounted", False)
    if expected is False:
        return lambda: None
    if expected is not True and not (isinstance(expected, str) and expected.startswith("/")):
        problem = f"the option 'mounted': expected true or an absolute path, found {expected!r}"
        raise InvalidUrl(url.redacted, "", problem)
    point = url.path if expected is True else str(expected)
    if not Path(url.path).is_relative_to(point):
        raise InvalidUrl(url.redacted, "", f"the option 'mounted': {point} is not above {url.path}")

    def guard() -> None:
        if mounted_at(point) is None:
            problem = f"nothing is mounted at {point}; backups would fill the disk below it"
            raise Unavailable(url.redacted, "", problem, transient=False)

    return guard


def _advice(url: RemoteUrl) -> str:
    if url.kind is UrlKind.SMB:
        return "mount it and use file:///the/mount/point"
    return "supported are s3:, file: and absolute paths"


def _s3(scheme: str, rest: str) -> RemoteUrl:
    """Xen Orchestra puts the region behind ``#``."""
    rest, _, region = rest.partition("#")
    body, _, query = rest.partition("?")
    shown = _redact_authority(scheme, body)
    options = _options(query, shown)
    address = parse_address(scheme, body, options, region)
    return RemoteUrl(
        kind=UrlKind.S3,
        path=f"{address.bucket}/{address.prefix}".rstrip("/"),
        options=options,
        redacted=address.shown,
        s3=address,
    )


def _absolute(path: str, shown: str) -> str:
    if not path.startswith("/"):
        raise InvalidUrl(shown, "", f"expected an absolute path (file:///path), found {path!r}")
    if "\0" in path:
        raise InvalidUrl(shown.replace("\0", "?"), "", "the path contains a NUL")
    return path


def _options(query: str, shown: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for piece in query.split("&") if query else ():
        key, equals, value = piece.partition("=")
        key = unquote(key)
        if not key:
            raise InvalidUrl(shown, "", "expected name=value after ? and &, found an option without a name")
        if key in options:
            raise InvalidUrl(shown, "", f"the option {key!r} is given twice")
        options[key] = _option_value(key, unquote(value), shown) if equals else True
    return options


def _option_value(key: str, text: str, shown: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        found = REDACTED if key in SECRET_OPTIONS else repr(text[:80])
        problem = f"the option {key!r} is not JSON: found {found} (a text needs quotes: %22...%22)"
        raise InvalidUrl(shown, "", problem) from None


def _redacted_query(options: dict[str, Any]) -> str:
    pieces = [f"{key}={REDACTED if key in SECRET_OPTIONS else json.dumps(value)}" for key, value in options.items()]
    return "?" + "&".join(pieces) if pieces else ""


def _redact_authority(scheme: str, rest: str) -> str:
    """Host and path only: user, password, options and fragment may all be secret."""
    try:
        parts = urlsplit(f"{scheme}:{rest}")
    except ValueError:
        return f"{scheme}://{REDACTED}"
    host = parts.netloc.rpartition("@")[2]
    user = f"{REDACTED}@" if "@" in parts.netloc else ""
    if "@" in parts.path:  # an unquoted slash in a password moves the rest of it into the path
        return f"{scheme}://{REDACTED}"
    return f"{scheme}://{user}{host}{parts.path}".replace("\0", "/")
