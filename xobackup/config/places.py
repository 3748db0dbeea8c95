"""Pools and remotes in the configuration: where VMs are, and where backups are kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from xobackup.config.buckets import BucketKeys, check_bucket
from xobackup.config.limits import Rate, WindowSection
from xobackup.config.secrets import Secret
from xobackup.config.section import Section
from xobackup.config.sites import Sites


class TlsSection(Section):
    """How a pool's certificate is trusted: one of the three; none means the system's authorities."""

    ca: Path | None = None
    fingerprint: str | None = None
    verify: bool = True

    @field_validator("fingerprint")
    @classmethod
    def _normal(cls, value: str | None) -> str | None:
        if value is None:
            return None
        digests = [
            part.lower().removeprefix("sha256:").replace(":", "") for part in re.split(r"[\s,]+", value.strip())
        ]
        if not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests):
            raise ValueError(
                "expected SHA-256 fingerprints of 64 hexadecimal digits, one per host, separated by commas"
            )
        return ",".join(digests)

    @model_validator(mode="after")
    def _one(self) -> TlsSection:
        if sum((self.ca is not None, self.fingerprint is not None, not self.verify)) > 1:
            raise ValueError("expected at most one of ca, fingerprint, verify = false")
        return self


class PoolSection(Section):
    """A pool: any of its hosts will do, its master is found."""

    url: str
    username: str = "root"
    password: Secret
    tls: TlsSection = TlsSection()
    sites: Sites = ()
    """Where it is: only workers of these sites reach it; none: everybody does."""

    @field_validator("url")
    @classmethod
    def _https(cls, value: str) -> str:
        text = value if "://" in value else f"https://{value}"
        if not re.fullmatch(r"https?://[^/\s@]+/?", text):
            raise ValueError(f"expected https://host or https://host:port, found {value!r}")
        return text.rstrip("/")


class EncryptionSection(Section):
    """Everything on the remote is encrypted."""

    key: Secret
    """In Xen Orchestra's mode 32 characters; in ours a key (``XBK1-...``) or a passphrase."""
    mode: Literal["xo", "xobackup"] = "xo"
    """``xobackup``: our own, which Xen Orchestra cannot read."""
    algorithm: Literal["chacha20-poly1305", "aes-256-gcm"] | None = None
    """Of a remote that is still empty; one that holds something says its own."""


class LockSection(Section):
    """Backups that nobody can delete before their time."""

    mode: Literal["governance", "compliance", "immutable"]
    """The first two: by the bucket (object lock). ``immutable``: by flags on files, see docs/immutability.md."""
    days: Annotated[float, Field(gt=0, le=30_000)]
    """Every restore point is protected for so long."""
    chain_days: Annotated[float, Field(ge=1, le=3_650)] = 7
    """A full begins a new chain when the last one is so old: until then what it is made of is locked for longer."""


class RemoteSection(BucketKeys):
    """Where backups are kept. All but ``url`` and ``encryption`` are for buckets."""

    url: str
    encryption: EncryptionSection | None = None
    rate_limit_mib_s: Rate | None = None
    """All that is written to it, outside of the windows of ``bandwidth``."""
    bandwidth: tuple[WindowSection, ...] = ()
    layout: Literal["files", "directories"] | None = None
    """Disks as VHD files, or as directories of one compressed object per block (``useVhdDirectory``)."""
    compression: Literal["brotli", "zstd", "gzip", "none"] | None = None
    """Of blocks in directories, where a chain begins; Xen Orchestra continues only brotli."""
    compression_level: Annotated[int, Field(ge=-7, le=19)] | Literal["auto"] | None = None
    """Of zstd; ``auto`` follows how fast the blocks come."""

    lock: LockSection | None = None
    """What is backed up there is locked."""
    sites: Sites = ()
    """From where it is reached; none: from everywhere."""

    @model_validator(mode="after")
    def _lock_of_the_kind(self) -> RemoteSection:
        if self.lock is None:
            return self
        bucket = self.url.partition(":")[0].lower() in ("s3", "s3+http")
        if bucket and self.lock.mode == "immutable":
            raise ValueError('lock.mode: expected "governance" or "compliance" for a bucket, found "immutable"')
        if not bucket and self.lock.mode != "immutable":
            found = f'found "{self.lock.mode}", which only buckets have'
            raise ValueError(f'lock.mode: expected "immutable" for a file system, {found}')
        return self

    @model_validator(mode="after")
    def _compression_of_directories(self) -> RemoteSection:
        if self.compression is not None and self.encryption is None and self._has_files():
            raise ValueError('compression: only with layout = "directories"; VHD files are stored as they are')
        if self.compression_level is not None and self.compression != "zstd":
            raise ValueError('compression_level: only for compression = "zstd"')
        return self

    def _has_files(self) -> bool:
        """Whether disks are kept as files there, as far as the configuration tells."""
        if self.layout is not None:
            return self.layout == "files"
        return self.url.startswith(("/", "file:", "nfs:")) and "useVhdDirectory=true" not in self.url

    @model_validator(mode="after")
    def _fitting(self) -> RemoteSection:
        check_bucket(self.url, self)
        return self
