"""JSON-RPC to one host.

One :class:`RpcClient` is one host; threads may share it. It knows no session. It accepts both failure shapes (an
object with code, message, data; or the bare array of old hosts), ``NaN`` and ``Infinity``, and raises only
:mod:`xobackup.xapi.errors`, whatever the peer sends. An answer is bounded in size and in time.
"""

from __future__ import annotations

import itertools
import json
import ssl
from typing import Any

from xobackup.xapi.address import Endpoint
from xobackup.xapi.errors import (
    AnswerTimeout,
    ConnectionLost,
    HttpError,
    ProtocolError,
    RequestTooLarge,
    XapiFailure,
    clean_text,
    text_of_html,
)
from xobackup.xapi.exchange import Answer, Exchange
from xobackup.xapi.failures import failure, from_error_info
from xobackup.xapi.timeouts import Timeouts

REQUEST_BYTES_MAX = 300 * 1024
"""XAPI refuses bigger bodies."""
ANSWER_BYTES_MAX = 512 * 1024 * 1024
"""Records of the biggest pools are some tens of MiB; more than this is no answer."""
HTTP_OK = 200

_PATH = "/jsonrpc"
_HEADERS = {
    "User-Agent": "xobackup",
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}


class RpcClient:
    """Calls to one host."""

    def __init__(self, endpoint: Endpoint, *, tls: ssl.SSLContext, timeouts: Timeouts) -> None:
        self.endpoint = endpoint
        self._timeouts = timeouts
        self._ids = itertools.count(1)
        self._exchange = Exchange(endpoint, tls=tls, connect_s=timeouts.connect_s, answer_bytes_max=ANSWER_BYTES_MAX)

    def call(self, method: str, params: list[Any], *, timeout_s: float | None = None) -> Any:
        """One call; returns its result. ``params`` starts with the session where the call wants one."""
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": number}
        body = json.dumps(request, allow_nan=False).encode("ascii")
        if len(body) > REQUEST_BYTES_MAX:
            raise RequestTooLarge(method, len(body), REQUEST_BYTES_MAX)
        limit_s = self._timeouts.call_s if timeout_s is None else timeout_s
        answer = self._post(method, body, limit_s)
        if answer.status != HTTP_OK:
            raise HttpError(self._host, answer.status, text_of_html(answer.body[:65536]))
        return self._result(method, number, answer.content_type, answer.body)

    def close(self) -> None:
        self._exchange.close()

    @property
    def _host(self) -> str:
        return self.endpoint.authority

    def _post(self, method: str, body: bytes, limit_s: float) -> Answer:
        """Errors say which call it was; once it may have been sent, that its outcome is unknown."""
        try:
            return self._exchange.post(_PATH, _HEADERS, body, limit_s=limit_s)
        except AnswerTimeout as error:
            problem = f"{method}: no answer within {limit_s:g} s"
            raise AnswerTimeout(self._host, problem, outcome_unknown=True) from error
        except ConnectionLost as error:
            raise ConnectionLost(self._host, f"{method}: {error.problem}", outcome_unknown=True) from error
        except ProtocolError as error:
            raise ProtocolError(self._host, f"{method}: {error.problem}") from error

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
