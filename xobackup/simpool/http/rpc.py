"""What the two RPC protocols have in common: a body with a length, of at most 300 KiB, and connections that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.http.server import CORS, answer_html

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.http.wire import Connection, Request

BODY_MAX_BYTES = 300 * 1024


class Malformed(Exception):
    """The body is no call."""


def answer_call(request: Request, connection: Connection, reply: Callable[[bytes], bytes], content_type: str) -> bool:
    """Read one call, answer it; whether the connection stays open. Only malformed bodies are HTTP errors."""
    length = request.content_length
    if length is None:
        return _refuse(connection, "Failure: We require a content-length: HTTP header")
    if length > BODY_MAX_BYTES:
        return _refuse(connection, "body too large")
    try:
        answer = reply(connection.read_exactly(length))
    except Malformed as error:
        return _refuse(connection, str(error))
    keep = not request.old and request.headers.get("connection", "").lower() != "close"
    headers = (
        f"connection: {'keep-alive' if keep else 'close'}",
        "cache-control: no-cache, no-store",
        f"content-type: {content_type}",
        *CORS,
        f"content-length: {len(answer)}",
    )
    connection.answer("200 OK", headers, answer)
    return keep


def _refuse(connection: Connection, detail: str) -> bool:
    answer_html(connection, "500 Internal Error", "HTTP 500 internal server error", detail)
    return False
