"""What the configuration says of a remote in a bucket, beside its URL: how to get in, and what the host is like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remotes.s3.address import PARALLEL_MAX, with_keys
from xobackup.config.secrets import Secret, resolve


class Credentials(BaseModel):
    """``access_key`` and ``secret_key`` (and ``session_token``), or ``profile`` of the AWS configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    profile: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Credentials:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("expected access_key and secret_key, found only one of them")
        if (self.access_key is None) == (self.profile is None):
            raise ValueError("expected access_key and secret_key, or profile")
        if self.session_token is not None and self.access_key is None:
            raise ValueError("session_token: belongs to access_key and secret_key")
        return self


class BucketTls(BaseModel):
    """How the host's certificate is trusted: an authority, or none at all; by default the system's authorities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = None
    verify: bool = True

    @model_validator(mode="after")
    def _one(self) -> BucketTls:
        if self.ca is not None and not self.verify:
            raise ValueError("expected at most one of ca, verify = false")
        return self


class BucketKeys(BaseModel):
    """Keys of a remote that only an ``s3:`` URL may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    credentials: Credentials | None = None
    region: str | None = None
    tls: BucketTls | None = None
    path_style: bool | None = None
    """``host/bucket`` instead of ``bucket.host``; by default so except on Amazon's hosts."""
    parallel: Annotated[int, Field(ge=1, le=PARALLEL_MAX)] | None = None
    """Requests at a time."""

    @property
    def given(self) -> list[str]:
        """The keys that are there."""
        return [name for name in BucketKeys.model_fields if getattr(self, name) is not None]


def check_bucket(url: str, keys: BucketKeys) -> None:
    """Raise ``ValueError`` when the keys do not fit the URL."""
    scheme = url.partition(":")[0].lower()
    if not keys.given:
        return
    if scheme not in ("s3", "s3+http"):
        raise ValueError(f"{', '.join(keys.given)}: only for s3: URLs")
    if keys.credentials is not None and "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("credentials: the URL has a key and a secret already; take them out of it")
    if keys.tls is not None and scheme == "s3+http":
        raise ValueError("tls: the URL begins with s3+http:, which has none")


def bucket_url(url: str, keys: BucketKeys, key: str, *, with_secrets: bool = True) -> str:
    """``url`` with everything the configuration says beside it; ``key`` names the remote's table in errors."""
    options = {
        "region": keys.region,
        "ca": str(keys.tls.ca) if keys.tls is not None and keys.tls.ca is not None else None,
        "allowUnauthorized": True if keys.tls is not None and not keys.tls.verify else None,
        "pathStyle": keys.path_style,
        "parallel": keys.parallel,
    }
    access_key = secret_key = ""
    given = keys.credentials
    if given is not None and with_secrets:
        options["profile"] = given.profile
        if given.access_key is not None and given.secret_key is not None:
            access_key = resolve(given.access_key, f"{key}.credentials.access_key")
            secret_key = resolve(given.secret_key, f"{key}.credentials.secret_key")
        if given.session_token is not None:
            options["sessionToken"] = resolve(given.session_token, f"{key}.credentials.session_token")
    said = {name: json.dumps(value) for name, value in options.items() if value is not None}
    return with_keys(url, access_key=access_key, secret_key=secret_key, options=said) if said or access_key else url
