"""``POST /jsonrpc``: JSON-RPC 1.0 and 2.0 over the dispatcher, with xapi's limits and shapes.

The content type is exactly ``application/json``: clients compare the whole string. Failures of the API are HTTP
200; only malformed bodies are 500.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xobackup.simpool.failures import Failure
from xobackup.simpool.http.rpc import Malformed, answer_call

if TYPE_CHECKING:
    from xobackup.simpool.host_server import HostDispatcher
    from xobackup.simpool.http.wire import Connection, Request


class JsonRpc:
    """The handler."""

    def __init__(self, dispatcher: HostDispatcher, *, old_error_shape: bool) -> None:
        self._dispatcher = dispatcher
        self._old_error_shape = old_error_shape

    def __call__(self, request: Request, connection: Connection) -> bool:
        return answer_call(request, connection, self.reply, "application/json")

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


def _parse(body: bytes) -> dict[str, Any]:
    try:
        call = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
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
