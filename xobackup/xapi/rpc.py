"""JSON-RPC to one host, over httpx.

One :class:`RpcClient` is one host; threads may share it. It knows no session. It accepts both failure shapes (an
object with code, message, data; or the bare array of old hosts), ``NaN`` and ``Infinity``, and raises only
:mod:`xobackup.xapi.errors`, whatever the peer sends. An answer is bounded in size and in time.
"""

from __future__ import annotations

import itertools
import json
import ssl
import time
from typing import Any

import httpx

from xobackup.xapi.address import Endpoint
from xobackup.xapi.errors import (
    AnswerTimeout,
    ConnectionLost,
    HttpError,
    ProtocolError,
    RequestTooLarge,
    TlsError,
    Unreachable,
    XapiFailure,
    clean_text,
    text_of_html,
)
from xobackup.xapi.failures import failure, from_error_info
from xobackup.xapi.timeouts import Timeouts

REQUEST_BYTES_MAX = 300 * 1024
"""XAPI refuses bigger bodies."""
ANSWER_BYTES_MAX = 512 * 1024 * 1024
"""Records of the biggest pools are some tens of MiB; more than this is no answer."""
CONNECTIONS_MAX = 64
"""Each waiting ``event.from`` holds one."""

_PATH = "/jsonrpc"


class RpcClient:
    """Calls to one host."""

    def __init__(self, endpoint: Endpoint, *, tls: ssl.SSLContext, timeouts: Timeouts) -> None:
        self.endpoint = endpoint
        self._timeouts = timeouts
        self._ids = itertools.count(1)
        self._http = httpx.Client(
            verify=tls,
            trust_env=False,  # a proxy meant for the internet must not see a pool's password
            follow_redirects=False,
            headers={
                "content-type": "application/json",
                "accept": "application/json",
                "accept-encoding": "identity",
                "user-agent": "xobackup",
            },
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=8, keepalive_expiry=30.0),
        )

    def call(self, method: str, params: list[Any], *, timeout_s: float | None = None) -> Any:
        """One call; returns its result. ``params`` starts with the session where the call wants one."""
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": number}
        body = json.dumps(request, allow_nan=False).encode("ascii")
        if len(body) > REQUEST_BYTES_MAX:
            raise RequestTooLarge(method, len(body), REQUEST_BYTES_MAX)
        limit_s = self._timeouts.call_s if timeout_s is None else timeout_s
        status, content_type, answer = self._post(method, body, limit_s)
        if status != httpx.codes.OK:
            raise HttpError(self._host, status, text_of_html(answer[:65536]))
        return self._result(method, number, content_type, answer)

    def close(self) -> None:
        self._http.close()

    @property
    def _host(self) -> str:
        return self.endpoint.authority

    def _post(self, method: str, body: bytes, limit_s: float) -> tuple[int, str, bytes]:
        timeout = httpx.Timeout(limit_s, connect=self._timeouts.connect_s, pool=limit_s)
        deadline = time.monotonic() + limit_s
        url = self.endpoint.url + _PATH
        try:
            with self._http.stream("POST", url, content=body, timeout=timeout) as response:
                answer = self._read(method, response, deadline, limit_s)
                return response.status_code, response.headers.get("content-type", ""), answer
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreachable(self._host, f"no connection within {self._timeouts.connect_s:g} s") from error
        except httpx.ConnectError as error:
            raise self._no_connection(error) from error
        except httpx.TimeoutException as error:
            raise AnswerTimeout(
                self._host, f"{method}: no answer within {limit_s:g} s", outcome_unknown=True
            ) from error
        except httpx.RemoteProtocolError as error:
            if "disconnected" in str(error) or "closed" in str(error):
                raise self._lost(method, error) from error
            raise ProtocolError(self._host, f"{method}: expected HTTP/1.1, {clean_text(str(error))}") from error
        except httpx.TransportError as error:
            raise self._lost(method, error) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise ProtocolError(self._host, f"{method}: {clean_text(str(error))}") from error

    def _read(self, method: str, response: httpx.Response, deadline: float, limit_s: float) -> bytes:
        parts = bytearray()
        for part in response.iter_bytes():
            parts += part
            if len(parts) > ANSWER_BYTES_MAX:
                raise ProtocolError(self._host, f"{method}: the answer is bigger than {ANSWER_BYTES_MAX} bytes")
            if time.monotonic() > deadline:
                problem = f"{method}: the answer was not complete within {limit_s:g} s"
                raise AnswerTimeout(self._host, problem, outcome_unknown=True)
        return bytes(parts)

    def _lost(self, method: str, error: Exception) -> ConnectionLost:
        why = clean_text(str(error)) or type(error).__name__
        return ConnectionLost(self._host, f"{method}: the connection broke: {why}", outcome_unknown=True)

    def _no_connection(self, error: httpx.ConnectError) -> Unreachable | TlsError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLError):
                return TlsError(self._host, f"TLS does not come about: {clean_text(str(cause.reason or cause))}")
            cause = cause.__cause__ or cause.__context__
        return Unreachable(self._host, f"cannot connect: {clean_text(str(error))}")

    def _result(self, method: str, number: int, content_type: str, answer: bytes) -> Any:
        try:
            decoded = json.loads(answer)
        except (ValueError, RecursionError) as error:
            found = clean_text(answer[:80].decode("utf-8", "replace"))
            kind = clean_text(content_type) or "no content type"
            raise ProtocolError(self._host, f"{method}: expected JSON, found {kind}: {found!r}") from error
        if not isinstance(decoded, dict):
            raise ProtocolError(self._host, f"{method}: expected a JSON object, found {type(decoded).__name__}")
        error_member = decoded.get("error")
        if error_member is not None:
            raise _failure(method, error_member)
        if "result" not in decoded:
            raise ProtocolError(self._host, f"{method}: the answer has neither result nor error")
        if decoded.get("id") not in (number, str(number)):
            raise ProtocolError(
                self._host, f"{method}: the answer is to call {decoded.get('id')!r}, expected {number}"
            )
        return decoded["result"]


def _failure(method: str, member: object) -> XapiFailure:
    """The failure in an ``error`` member of either version."""
    if isinstance(member, list):
        return from_error_info(member, method=method)
    if not isinstance(member, dict):
        return failure(member, method=method)
    data = member.get("data")
    if isinstance(data, list):
        return failure(member.get("message", ""), data, method=method)
    return failure(member.get("message", ""), [] if data is None else [data], method=method)
