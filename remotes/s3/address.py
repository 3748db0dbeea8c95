"""Which bucket, where, and by which rules: Xen Orchestra's URL, and what we understand besides.

    s3://KEY:SECRET@host[:port]/bucket/dir?options#region       s3+http:// without TLS

Key and secret are percent-encoded, or absent: then the AWS environment, a profile or the machine's role gives them.
Options are JSON values as in every URL of a remote:

    region             "eu-west-3"; also after #, as Xen Orchestra writes it; else from an Amazon host's name
    profile            a section of ~/.aws/config and ~/.aws/credentials
    sessionToken       of temporary credentials
    pathStyle          true: host/bucket, false: bucket.host; by default the second for Amazon only
    ca                 "/path/ca.pem": who vouches for the host's certificate
    allowUnauthorized  true: any certificate will do (Xen Orchestra's name)
    parallel           requests at a time
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from remotes.errors import InvalidName, InvalidUrl
from remotes.names import validate

PARALLEL = 16
PARALLEL_MAX = 128
DEFAULT_REGION = "us-east-1"
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}", re.ASCII)
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", re.ASCII)
_AMAZON = re.compile(r"s3[.-](?:dualstack\.)?(?:([a-z]{2}(?:-[a-z]+)+-\d)\.)?amazonaws\.com(?:\.cn)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Address:
    """A place in a bucket, and how to get in."""

    endpoint: str
    """``https://host:port``."""
    bucket: str
    prefix: str = ""
    """Of every key, without slashes around it."""
    region: str = DEFAULT_REGION
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    profile: str = ""
    path_style: bool = True
    ca: str = ""
    verify: bool = True
    amazon: bool = False
    """Whether this is Amazon's own S3, which keeps every promise it documents."""
    parallel: int = PARALLEL

    @property
    def shown(self) -> str:
        """The URL without anything secret."""
        scheme, _, host = self.endpoint.partition("://")
        keys = "***@" if self.access_key else ""
        where = f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket
        return f"{'s3' if scheme == 'https' else 's3+http'}://{keys}{host}/{where}"


def parse_address(scheme: str, body: str, options: Mapping[str, Any], region: str) -> S3Address:
    """``body``: ``//KEY:SECRET@host/bucket/dir``, encoded. Raises :class:`InvalidUrl`, which shows no secret."""
    shown = f"{scheme}://***"
    authority, _, path = body.removeprefix("//").partition("/")
    keys, at, host = authority.rpartition("@")
    if not _HOST.fullmatch(host):
        raise InvalidUrl(shown, "", _no_host(path, at=bool(at)))
    access_key, colon, secret_key = keys.partition(":")
    if at and not (access_key and colon and secret_key):
        raise InvalidUrl(f"{scheme}://***@{host}", "", "expected KEY:SECRET before the @")
    shown = f"{scheme}://{'***@' if at else ''}{host}/{unquote(path)}"
    bucket, _, prefix = unquote(path).partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidUrl(shown, "", f"expected the name of a bucket after the host, found {bucket!r}")
    if prefix:
        try:
            validate(prefix, remote=shown)
        except InvalidName as error:
            raise InvalidUrl(shown, "", f"the directory in the bucket: {error.problem}") from None
    amazon = _AMAZON.fullmatch(host.partition(":")[0])
    text = {key: _text(options, key, shown) for key in ("region", "profile", "sessionToken", "ca")}
    path_style = _flag(options, "pathStyle", shown)
    return S3Address(
        endpoint=f"{'http' if scheme.lower().endswith('+http') else 'https'}://{host}",
        bucket=bucket,
        prefix=prefix,
        region=text["region"] or unquote(region) or (amazon[1] if amazon and amazon[1] else DEFAULT_REGION),
        access_key=unquote(access_key),
        secret_key=unquote(secret_key),
        session_token=text["sessionToken"],
        profile=text["profile"],
        path_style=(not amazon or "." in bucket) if path_style is None else path_style,
        ca=text["ca"],
        verify=not _flag(options, "allowUnauthorized", shown),
        amazon=bool(amazon),
        parallel=_parallel(options, shown),
    )


def with_keys(url: str, *, access_key: str, secret_key: str, options: Mapping[str, str] | None = None) -> str:
    """``url`` (without keys) with these, ready to be opened and never to be shown."""
    scheme, _, rest = url.partition("://")
    rest, hash_, region = rest.partition("#")
    body, question, query = rest.partition("?")
    keys = f"{quote(access_key, safe='')}:{quote(secret_key, safe='')}@" if access_key else ""
    pieces = [query] if question and query else []
    pieces += [f"{key}={quote(value, safe='')}" for key, value in (options or {}).items()]
    return f"{scheme}://{keys}{body}{'?' + '&'.join(pieces) if pieces else ''}{hash_}{region}"


def _no_host(path: str, *, at: bool) -> str:
    if not at and "@" in path:
        return "expected s3://KEY:SECRET@host/bucket; a slash in the secret is written %2F"
    return "expected a host, and perhaps a port, after //"


def _text(options: Mapping[str, Any], key: str, shown: str) -> str:
    value = options.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidUrl(shown, "", f"the option {key!r}: expected a text (%22...%22)")
    return value


def _flag(options: Mapping[str, Any], key: str, shown: str) -> bool | None:
    value = options.get(key)
    if value is not None and not isinstance(value, bool):
        raise InvalidUrl(shown, "", f"the option {key!r}: expected true or false, found {str(value)[:40]!r}")
    return value


def _parallel(options: Mapping[str, Any], shown: str) -> int:
    value = options.get("parallel", PARALLEL)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= PARALLEL_MAX:
        raise InvalidUrl(shown, "", f"the option 'parallel': expected 1 to {PARALLEL_MAX}, found {str(value)[:40]!r}")
    return value
