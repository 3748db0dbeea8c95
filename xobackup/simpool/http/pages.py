"""Small GET handlers: the page at ``/`` (a liveness probe for clients) and the dump of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from xobackup.simpool.http import transfer
from xobackup.simpool.http.server import answer_html

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.http.wire import Connection, Request
    from xobackup.simpool.toolstack import Toolstack

_PAGE = b"<html><title>Simulated pool</title><body>A simulated XAPI pool.</body></html>"


def front_page(request: Request, connection: Connection) -> bool:
    """A page without secrets; any other file is missing."""
    if request.path not in ("/", "/index.html"):
        answer_html(connection, "404 Not Found", "Not found", request.path)
        return False
    headers = ("content-type: text/html", "connection: keep-alive", f"content-length: {len(_PAGE)}")
    connection.answer("200 OK", headers, _PAGE)
    return not request.old


def xmldbdump(toolstack: Toolstack) -> Callable[[Request, Connection], bool]:
    """``GET /pool/xmldbdump``: every table as XML; no length, no type, the task ends with it."""

    def handle(request: Request, connection: Connection) -> bool:
        try:
            transfer.authenticate(toolstack, request, connection)
        except transfer.Refused:
            return False
        task = transfer.adopt_task(toolstack, request, "Dumping the database")
        connection.answer("200 OK", transfer.CLOSING)
        connection.send(_dump(toolstack))
        toolstack.tasks.succeed(task, "")
        return False

    return handle


def _dump(toolstack: Toolstack) -> bytes:
    database = toolstack.database
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<database>"]
    with database.lock:
        lines.append(
            f'<manifest><pair key="schema_major_vsn" value="5"/>{_pair("generation", database.generation)}</manifest>'
        )
        for cls, rows in database.rows.items():
            lines.append(f"<table name={quoteattr(cls)}>")
            for ref, row in rows.items():
                fields = " ".join(f"{name}={quoteattr(str(value))}" for name, value in row.record.items())
                lines.append(f"<row ref={quoteattr(ref)} {fields}/>")
            lines.append("</table>")
    lines.append("</database>")
    return "\n".join(lines).encode()


def _pair(key: str, value: object) -> str:
    return f"<pair key={quoteattr(key)} value={quoteattr(str(value))}/>"
