"""XAPI's HTTP handlers: the way from a request to an open 200 answer, and from a refusal to the reason.

A handler redirects to a host that sees the SR (followed, with the same task), and checks the session before it
adopts the task: so 401 leaves the task untouched, and the request is repeated once with a new session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from xobackup.xapi import failures
from xobackup.xapi import task as tasks
from xobackup.xapi.address import Endpoint, parse_endpoint
from xobackup.xapi.errors import (
    AddressError,
    OutcomeUnknown,
    ProtocolError,
    TransferCancelled,
    TransferError,
    TransferRefused,
    TransportError,
    XapiError,
    clean_text,
    text_of_html,
)
from xobackup.xapi.http11 import Connection, Head

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

StopAsked = Callable[[], bool]

REDIRECTS_MAX = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Handler:
    """One request to a handler; ``what`` names it in messages."""

    def __init__(
        self,
        session: Session,
        what: str,
        *,
        method: str,
        path: str,
        query: Mapping[str, str],
        should_stop: StopAsked | None = None,
        first_byte_s: float | None = None,
    ) -> None:
        """``first_byte_s``: another limit than that of :class:`Timeouts`."""
        self.session = session
        self.what = what
        self.first_byte_s = session.timeouts.first_byte_s if first_byte_s is None else first_byte_s
        self.endpoint = session.endpoint
        """The host that takes it: known after :meth:`open` followed the redirects."""
        self._method = method
        self._path = path
        self._query = dict(query)
        self._secret = ""
        self._should_stop = should_stop

    def open(self, *, task: str | None = None, length_bytes: int | None = None) -> tuple[Connection, Head]:
        """Send the request, following redirects and a lost session; returns the open answer, whatever its status."""
        visited = {self.endpoint}
        renewed = False
        while True:
            session_ref = self._secret = self.session.reference()
            connection, head = self._attempt(session_ref, task, length_bytes)
            if head.status in _REDIRECTS:
                connection.close()
                self.endpoint = self._redirected(head)
                if self.endpoint in visited or len(visited) > REDIRECTS_MAX:
                    raise TransferError(self.what, f"redirected in a circle, to {self.endpoint.url} again")
                visited.add(self.endpoint)
            elif head.status == 401 and not renewed:
                connection.close()
                self.session.renew(session_ref)
                renewed = True
            else:
                return connection, head

    def wait(self, connection: Connection) -> None:
        """Wait until something arrives, at most ``first_byte_s``; :class:`TransferCancelled` when asked to stop."""
        timeouts = self.session.timeouts
        deadline = time.monotonic() + self.first_byte_s
        while self._should_stop is not None and time.monotonic() < deadline:
            if self._should_stop():
                raise TransferCancelled(self.what)
            if connection.wait(min(timeouts.poll_s, deadline - time.monotonic())):
                return

    def refusal(self, status: int, body: bytes, *, task: str | None) -> XapiError:
        """Why the host said no: the task's own failure, else the code in the error page, else the page's words."""
        text = text_of_html(body, secrets=[self._secret])
        failed = self.task_failure(task) if task is not None and status != 401 else None
        known = failures.from_text(text, method=self.what)
        return failed or known or TransferRefused(self.what, status, text)

    def task_failure(self, task: str, *, wait_s: float | None = None) -> XapiError | None:
        """The failure the task has, or gets within ``wait_s`` (default ``verdict_s``)."""
        limit_s = self.session.timeouts.verdict_s if wait_s is None else wait_s
        try:
            state = tasks.follow(self.session, task, what=self.what, timeout_s=limit_s)
        except OutcomeUnknown as error:
            return error
        except (TransportError, ProtocolError):
            return None  # the first error says more than that the pool cannot be asked either
        return state.failure(self.what)

    def _attempt(self, session_ref: str, task: str | None, length_bytes: int | None) -> tuple[Connection, Head]:
        timeouts = self.session.timeouts
        query = {**self._query, "session_id": session_ref}
        if task is not None:
            query["task_id"] = task
        headers = {"User-Agent": "xobackup", "Connection": "close"}
        if length_bytes is not None:
            headers["Content-Length"] = str(length_bytes)
        connection = Connection.open(self.endpoint, tls=self.session.tls, connect_s=timeouts.connect_s)
        try:
            connection.set_timeout(self.first_byte_s)
            connection.request(self._method, f"{self._path}?{urlencode(query, quote_via=quote)}", headers)
            self.wait(connection)
            return connection, connection.read_head()
        except BaseException:
            connection.close()
            raise

    def _redirected(self, head: Head) -> Endpoint:
        location = head.headers.get("location", "")
        shown = clean_text(location.partition("?")[0])
        try:
            parts = urlsplit(location)
            target = parse_endpoint(f"{parts.scheme}://{parts.netloc}")
        except (ValueError, AddressError) as error:
            raise TransferError(self.what, f"redirected to {shown!r}, expected the URL of another host") from error
        if self.endpoint.secure and not target.secure:
            raise TransferError(self.what, f"redirected from https:// to {shown}, which would show the session")
        return target
