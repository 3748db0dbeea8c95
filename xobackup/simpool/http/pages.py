"""The page at ``/``, a liveness probe for clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.http.server import answer_html

if TYPE_CHECKING:
    from xobackup.simpool.http.wire import Connection, Request

_PAGE = b"<html><title>Simulated pool</title><body>A simulated XAPI pool.</body></html>"


def front_page(request: Request, connection: Connection) -> bool:
    """A page without secrets; any other file is missing."""
    if request.path not in ("/", "/index.html"):
        answer_html(connection, "404 Not Found", "Not found", request.path)
        return False
    headers = ("content-type: text/html", "connection: keep-alive", f"content-length: {len(_PAGE)}")
    connection.answer("200 OK", headers, _PAGE)
    return not request.old
