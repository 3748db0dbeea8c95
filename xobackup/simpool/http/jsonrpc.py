"""``POST /jsonrpc``: JSON-RPC 1.0 and 2.0 over the dispatcher, with xapi's limits and shapes.

The content type is exactly ``application/json``: clients compare the whole string. Failures of the API are HTTP
200; only malformed bodies are 500.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xobackup.simpool.failures import Failure
from xobackup.simpool.http.server import CORS, answer_html

if TYPE_CHECKING:
    from xobackup.simpool.dispatch import Dispatcher
    from xobackup.simpool.http.wire import Connection, Request

BODY_MAX_BYTES = 300 * 1024


class Malformed(Exception):
    """The body is no call."""


class JsonRpc:
    """The handler."""

    def __init__(self, dispatcher: Dispatcher, *, old_error_shape: bool) -> None:
        self._dispatcher = dispatcher
        self._old_error_shape = old_error_shape

    def __call__(self, request: Request, connection: Connection) -> bool:
        length = request.content_length
        if length is None:
            detail = "Failure: We require a content-length: HTTP header"
            answer_html(connection, "500 Internal Error", "HTTP 500 internal server error", detail)
            return False
        if length > BODY_MAX_BYTES:
            answer_html(connection, "500 Internal Error", "HTTP 500 internal server error", "body too large")
            return False
        body = _read(connection, length)
        try:
            answer = self.reply(body)
        except Malformed as error:
            answer_html(connection, "500 Internal Error", "HTTP 500 internal server error", str(error))
            return False
        keep = not request.old and request.headers.get("connection", "").lower() != "close"
        headers = (
            f"connection: {'keep-alive' if keep else 'close'}",
            "cache-control: no-cache, no-store",
            "content-type: application/json",
            *CORS,
            f"content-length: {len(answer)}",
        )
        connection.answer("200 OK", headers, answer)
        return keep

    def reply(self, body: bytes) -> bytes:
        """The answer to one call. Raises :class:`Malformed`."""
        call = _parse(body)
        modern, number = "jsonrpc" in call, call["id"]
        try:
            value = self._dispatcher.call(call["method"], call.get("params", []))
            value = "" if value is None else value
            shape = {"jsonrpc": "2.0", "result": value} if modern else {"result": value, "error": None}
        except Failure as failure:
            shape = self._failed(failure, modern=modern)
        return json.dumps({**shape, "id": number}, separators=(",", ":")).encode()

    def _failed(self, failure: Failure, *, modern: bool) -> dict[str, Any]:
        if modern and not self._old_error_shape:
            error = {"code": 1, "message": failure.code, "data": failure.params}
            return {"jsonrpc": "2.0", "error": error}
        return {"result": None, "error": failure.details}


def _read(connection: Connection, length: int) -> bytes:
    body = bytearray(length)
    view, done = memoryview(body), 0
    while done < length:
        got = connection.read_into(view[done:])
        if not got:
            break
        done += got
    return bytes(body[:done])


def _parse(body: bytes) -> dict[str, Any]:
    try:
        call = json.loads(body)
    except ValueError as error:
        raise Malformed(f"Malformed JSON: {error}") from error
    if not isinstance(call, dict) or not isinstance(call.get("method"), str):
        raise Malformed("Malformed method request: method")
    number = call.get("id")
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise Malformed("Malformed method request: id")
    params = call.get("params", [] if "jsonrpc" in call else None)
    if not isinstance(params, list):
        raise Malformed("Malformed method request: params")
    return call
