"""What transfers have in common: who asks, which task reports, where the disk is, and how late errors look.

Order: credentials (401, the task untouched), the disk (500, the task untouched), a host that sees its repository
(302, the task untouched), then the task is the handler's and ends with it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import TYPE_CHECKING

from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import ConnectionLost, Fault
from xobackup.simpool.http.server import answer_html, html
from xobackup.simpool.http.wire import Disconnected
from xobackup.simpool.values import NULL

if TYPE_CHECKING:
    from xobackup.simpool.http.wire import Connection, Request
    from xobackup.simpool.toolstack import Toolstack

CLOSING = ("Connection: close", "Cache-Control: no-cache, no-store")
IO_ERROR = ("VDI_IO_ERROR", "Device I/O errors")


class Refused(Exception):
    """The request has been answered already; nothing is left to do."""


def authenticate(toolstack: Toolstack, request: Request, connection: Connection) -> str:
    """The session; answers 401 and raises :class:`Refused` without good credentials."""
    name = f"{request.method} {request.path.rstrip('/')}"
    toolstack.faults.act(name)
    if toolstack.faults.take("expire", name) is not None:
        toolstack.sessions.end_all()
    session = request.param("session_id")
    try:
        if session is not None:
            return toolstack.sessions.check(session)
        username, password = _basic(request)
        if toolstack.sessions.matches(username, password):
            return toolstack.sessions.login(username, password, "http")
    except Failure:
        pass
    headers = ('WWW-Authenticate: Basic realm="XenServer"', *CLOSING, "content-length: 0")
    connection.answer("401 Unauthorised", headers)
    raise Refused


def _basic(request: Request) -> tuple[str, str]:
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(text).decode() if kind.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    username, _, password = decoded.partition(":")
    return username, password


def refuse_early(connection: Connection, failure: Failure | str) -> Refused:
    """Answer 500 before any header of a transfer went out."""
    detail = failure if isinstance(failure, str) else f"Server_error({failure.code}, {failure.params})"
    answer_html(connection, "500 Internal Error", "HTTP 500 internal server error", detail)
    return Refused()


def require_host(toolstack: Toolstack, host: str, sr: str, request: Request, connection: Connection) -> None:
    """Answer 302 to a host that has the repository plugged, unless this one has."""
    hosts = toolstack.hosts_of_sr(sr)
    if host in hosts:
        return
    if not hosts:
        raise refuse_early(connection, Failure("SR_HAS_NO_PBDS", sr))
    address = toolstack.database.get("host", hosts[0])["address"]
    location = f"Location: {toolstack.scheme}://{address}{request.target}"
    connection.answer("302 Found", (*CLOSING, location))
    raise Refused


def adopt_task(toolstack: Toolstack, request: Request, label: str) -> str:
    """The client's task, or a new one of the handler's own."""
    given = request.param("task_id")
    if given is not None and toolstack.tasks.pending(given):
        return given
    above = request.param("subtask_of") or NULL
    known = toolstack.database.exists("task", above)
    return toolstack.tasks.create(label, subtask_of=above if known else NULL)


def refuse_late(connection: Connection, toolstack: Toolstack, task: str, status: str, failure: Failure) -> Refused:
    """Fail the task and answer with ``status``, HTTP/1.0 as xapi does it here."""
    toolstack.tasks.fail(task, failure)
    connection.answer(status, (*CLOSING, f"task-id:{task}"), version="1.0")
    return Refused()


def say_inside_body(connection: Connection, failure: Failure) -> None:
    """Append the second answer, if anybody still listens."""
    with contextlib.suppress(Disconnected):
        connection.send(error_inside_body(failure))


def break_off(connection: Connection, piece: bytes | memoryview, fault: Fault) -> None:
    """Carry out a planned break after the bytes that still go out."""
    connection.send(piece)
    if fault.still is not None:
        fault.still()
        raise ConnectionLost("planned")
    if fault.how == "lie":
        return  # a success that is none: only the length gives it away
    if fault.how == "drop":
        raise ConnectionLost("planned")
    if fault.how == "end":
        raise Disconnected("planned")
    raise Failure.unchecked(fault.code or IO_ERROR[0], fault.params or list(IO_ERROR[1:]))


def error_inside_body(failure: Failure) -> bytes:
    """The second answer that lands in the body when a transfer fails after its headers went out."""
    body = html("HTTP 500 internal server error", f"Server_error({failure.code}, [ {'; '.join(failure.params)} ])")
    head = (
        "HTTP/1.1 500 Internal Error\r\ncontent-type: text/html\r\nconnection: close\r\n"
        f"cache-control: no-cache, no-store\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
