"""GET requests to Xen Orchestra's REST API, with a token, over a connection that is trusted as the operator says.

No redirection is followed and no proxy of the environment is used: the token goes to the host that was named.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from xobackup.cli.exits import Exit
from xobackup.config.errors import ConfigError
from xobackup.config.from_xo.remarks import plain
from xobackup.config.from_xo.rest import Get
from xobackup.xapi.errors import HttpError, ProtocolError, TlsError, Unreachable
from xobackup.xapi.tls import TlsPolicy, Unverified, context_for

TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 256 << 20
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,500}")


def checked_url(url: str, policy: TlsPolicy) -> str:
    """``https://host[:port]``; raises :class:`ConfigError` for anything else."""
    text = url.rstrip("/") if "://" in url else f"https://{url.rstrip('/')}"
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or parts.scheme not in ("http", "https") or parts.username or parts.path or parts.query:
        raise ConfigError([f"--url: expected https://host or https://host:port, found {plain(url, most=100)!r}"])
    if parts.scheme == "http" and not isinstance(policy, Unverified):
        raise ConfigError(["--url: http:// would send the token in clear"], hint="use https://, or --insecure")
    return text


def checked_token(token: str) -> str:
    """``token``, if it can be one; raises :class:`ConfigError`, which does not show it."""
    if not _TOKEN.fullmatch(token):
        raise ConfigError(["the token has letters that no token of Xen Orchestra has"])
    return token


@contextmanager
def rest_client(url: str, token: str, policy: TlsPolicy) -> Iterator[Get]:
    """A function that gets paths of ``url``."""
    client = httpx.Client(
        verify=context_for(policy),
        trust_env=False,
        follow_redirects=False,
        timeout=TIMEOUT_S,
        headers={
            "user-agent": "xobackup",
            "accept": "application/json",
            "cookie": f"authenticationToken={token}",
        },
    )
    with client:
        yield lambda path: _get(client, url, path)


def _get(client: httpx.Client, url: str, path: str) -> bytes | None:
    host = url.partition("://")[2]
    try:
        with client.stream("GET", url + path) as response:
            body = bytearray()
            for part in response.iter_bytes():
                body += part
                if len(body) > ANSWER_BYTES_MAX:
                    raise ProtocolError(host, f"{path}: the answer is bigger than {ANSWER_BYTES_MAX >> 20} MiB")
    except TlsError as error:
        error.hint = "compare it with what the browser shows; then --fingerprint, or --ca with its authority"
        raise
    except httpx.TransportError as error:
        raise _unreachable(host, error) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise ProtocolError(host, f"{path}: {plain(error)}") from error
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise TokenRefused(host, response.status_code)
    if response.status_code != httpx.codes.OK:
        text = (
            f"it leads elsewhere, to {plain(response.headers['location'])}" if response.has_redirect_location else ""
        )
        raise HttpError(host, response.status_code, text or plain(bytes(body[:300]).decode(errors="replace")))
    return bytes(body)


class TokenRefused(HttpError):
    """Xen Orchestra does not let us in, or not far enough."""

    exit_code = Exit.UNREACHABLE
    hint = "the token must be valid and belong to an administrator: xo-cli create-token HOST USER"

    def __init__(self, host: str, status: int) -> None:
        super().__init__(host, status, "the token is not accepted")


def _unreachable(host: str, error: httpx.TransportError) -> Unreachable | TlsError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return TlsError(host, f"TLS does not come about: {plain(cause.reason or cause)}")
        cause = cause.__cause__ or cause.__context__
    return Unreachable(host, plain(error) or type(error).__name__)
