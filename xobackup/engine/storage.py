"""How what a remote holds is laid out and encrypted, and opening it that way.

A URL may say it in Xen Orchestra's words (``useVhdDirectory``, ``encryptionKey``), the configuration in ours;
what the configuration says counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xobackup.engine.errors import UsageError
from xobackup.repository.lock_rule import IMMUTABLE, LockRule

if TYPE_CHECKING:
    from remotes.contract import Remote
    from remotes.faces import Past
    from remotes.s3.locking import ObjectLock
    from xobackup.clock import Clock
    from xobackup.engine.job import RemoteTarget
    from xobackup.repository.repository import Repository

FILES, DIRECTORIES = "files", "directories"
XO, OWN = "xo", "xobackup"
NO_COMPRESSION = "none"
AUTO = "auto"
BROTLI = "brotli"
OWN_COMPRESSION = "zstd"
"""Where Xen Orchestra cannot read anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """``mode``: :data:`XO` or :data:`OWN`. ``algorithm``: of a remote that is still empty; ``""``: any."""

    key: str = field(repr=False)
    mode: str = XO
    algorithm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """``layout``: :data:`FILES` or :data:`DIRECTORIES`; ``compression``: of blocks in directories. ``""``: as the URL
    says, else the default."""

    layout: str = ""
    compression: str = ""
    compression_level: int | str | None = None
    """Of zstd: a number, or ``auto``."""
    encryption: Encryption | None = None
    lock: LockRule | None = None
    as_of_s: float | None = None
    """To be read as it was at that time (Unix seconds)."""


def open_repository(target: RemoteTarget, *, clock: Clock) -> Repository:
    """The repository of ``target``; passing failures of its storage are tried again."""
    from remotes.url import parse_url
    from xobackup.repository.options import RepositoryOptions
    from xobackup.repository.repository import Repository

    parsed = parse_url(target.url)
    storage = target.storage
    directory = storage.layout == DIRECTORIES if storage.layout else parsed.options.get("useVhdDirectory") is True
    options = RepositoryOptions(
        vhd_directory=directory,
        codec=compression_of(target),
        zstd_level=_zstd_level(storage.compression_level),
        lock=storage.lock,
    )
    return Repository(open_remote_of(target), clock=clock, options=options)


def compression_of(target: RemoteTarget) -> str:
    """The codec for new chains, by its name in a repository: ``""`` is none."""
    chosen = target.storage.compression
    if chosen:
        return "" if chosen == NO_COMPRESSION else chosen
    encryption = target.storage.encryption
    return OWN_COMPRESSION if encryption is not None and encryption.mode == OWN else BROTLI


def _zstd_level(chosen: int | str | None) -> int | None:
    return None if chosen == AUTO else 1 if chosen is None else int(chosen)


def remarks_on(target: RemoteTarget) -> list[str]:
    """What an operator should know of how ``target`` is kept."""
    encryption = target.storage.encryption
    if encryption is not None and encryption.mode == OWN:
        return ["encrypted in xobackup's own mode: Xen Orchestra cannot read it"]
    codec = compression_of(target)
    if codec not in (BROTLI, "gzip", ""):
        return [
            f"compression {codec}: Xen Orchestra cannot read what is written with it, and would start with a full"
        ]
    if codec != BROTLI:
        return [f"compression {codec or NO_COMPRESSION}: Xen Orchestra reads it, but would start with a full"]
    return []


def open_remote_of(target: RemoteTarget) -> Remote:
    """The remote of ``target``, seen through its encryption. Raises errors of the remote, also ``KeyRefused``."""
    from remotes.encryption.keyring import open_own_encrypted
    from remotes.encryption.markers import open_xo_encrypted
    from xobackup.repository.binding import binding_of

    encryption = encryption_of(target)
    remote = open_plain_remote(target)
    if encryption is None:
        return remote
    try:
        if encryption.mode == OWN:
            return open_own_encrypted(remote, encryption.key, binding=binding_of)
        return open_xo_encrypted(remote, encryption.key, algorithm=encryption.algorithm or None)
    except BaseException:
        remote.close()
        raise


def open_plain_remote(target: RemoteTarget) -> Remote:
    """The remote of ``target`` as its storage has it."""
    from remotes.retrying import RetryingRemote
    from remotes.url import open_remote

    if target.storage.as_of_s is not None:
        return RetryingRemote(open_past(target, target.storage.as_of_s, locks=False))
    return RetryingRemote(open_remote(target.url, lock=_object_lock(target.storage.lock)))


def open_past(target: RemoteTarget, time_s: float, *, locks: bool = True) -> Past:
    """The remote of ``target`` as its storage had it at ``time_s``. ``locks``: what is brought back is locked."""
    from remotes import faces
    from remotes.url import open_remote

    opened = open_remote(target.url, lock=_object_lock(target.storage.lock) if locks else None)
    try:
        return faces.as_of(opened, time_s)
    except BaseException:
        opened.close()
        raise


def _object_lock(rule: LockRule | None) -> ObjectLock | None:
    """What a store is told to do; flags on files are set by somebody else."""
    if rule is None or rule.mode == IMMUTABLE:
        return None
    from remotes.s3.locking import ObjectLock

    return ObjectLock(mode=rule.mode, seconds_of=rule.seconds_of)


def encryption_of(target: RemoteTarget) -> Encryption | None:
    """The encryption of ``target`` by the configuration, else by its URL."""
    from remotes.url import parse_url

    if target.storage.encryption is not None:
        return target.storage.encryption
    parsed = parse_url(target.url)
    key = parsed.options.get("encryptionKey")
    if key is None:
        return None
    if not isinstance(key, str):
        raise UsageError(f"{parsed}: encryptionKey: expected a text (%22...%22)")
    return Encryption(key=key)
