"""The application: who may come in, what every answer carries, how errors look. Pages and API are routers of it.

A request is somebody's by, in this order: a bearer token, the cookie of a login, nothing. Without a login one may
look when the settings say so, and only under a name that is ours (a foreign page could otherwise look through a
visitor's browser, by a name that it lets point here).
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from xobackup.history.errors import HistoryError
from xobackup.service.state import StateUnreadable
from xobackup.web.access import NOBODY, Passwords, Role, Throttle, Who
from xobackup.web.audit import Audit
from xobackup.web.house import House, Refused
from xobackup.web.sessions import Sessions
from xobackup.web.tokens import Token, who_has

COOKIE = "xobackup_session"
BODY_MAX = 64 * 1024
PLACE = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the application is reached."""

    open_to_look: bool
    """Whether one may look without a login."""
    secure: bool
    """Browsers reach it by TLS: here, or at a proxy in front of it."""
    hosts: frozenset[str]
    """Names that it has besides addresses and localhost."""
    zone: tzinfo | None = None
    """Of the times on the pages; the machine's own when absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """All that is asked of who somebody is."""

    settings: Settings
    passwords: Passwords
    sessions: Sessions
    throttle: Throttle
    audit: Audit
    tokens: Callable[[], Sequence[Token]]
    now_s: Callable[[], float]

    def who(self, request: Request) -> Who:
        """Raises ``Refused`` for a token that does not hold."""
        scheme, _, word = request.headers.get("authorization", "").partition(" ")
        if scheme:
            address = address_of(request)
            if wait_s := self.throttle.wait_s(address):
                raise Refused(429, f"too many tries from {address}", hint=f"wait {wait_s:.0f} s")
            found = who_has(self.tokens(), word.strip(), self.now_s()) if scheme.lower() == "bearer" else None
            if found is None:
                self.throttle.failed(address)
                raise Refused(401, "this token is not known, or does not hold any more")
            return found
        session = self.sessions.who(request.cookies.get(COOKIE, ""))
        if session is not None:
            return session
        return Who(name="", role=Role.VIEWER) if self.settings.open_to_look else NOBODY


def make_app(house: House, door: Door) -> FastAPI:
    """Everything put together."""
    from xobackup.web import api, pages
    from xobackup.web.api.answers import RESPONSES

    app = FastAPI(
        title="xobackup",
        version=house.version or "0",
        description="What the status page shows and does, for programs. Errors are problem details (RFC 9457).",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.house, app.state.door = house, door
    app.mount("/static", StaticFiles(directory=PLACE / "static"), name="static")
    app.include_router(api.router)
    app.include_router(api.commands.router_for(house.commands), prefix=api.router.prefix, responses=RESPONSES)
    app.include_router(api.health.router)
    app.include_router(pages.router)
    app.middleware("http")(_around)
    for kind in (Refused, HistoryError, StateUnreadable, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _failed)
    return app


async def _around(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """What holds for every request: a name of ours, a body that is not too long; and what every answer carries."""
    door: Door = request.app.state.door
    response: Response
    if not _named(request.headers.get("host", ""), door.settings.hosts):
        response = _problem(Refused(421, "this is not a name of this service", hint="[web] hosts names those it has"))
    elif int(request.headers.get("content-length") or 0) > BODY_MAX or "transfer-encoding" in request.headers:
        response = _problem(Refused(413, f"a request has at most {BODY_MAX} bytes, and says how many"))
    else:
        response = await go_on(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if not request.url.path.startswith("/static/"):
        response.headers.setdefault("Cache-Control", "no-store")
    if door.settings.secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    return response


def _named(host: str, ours: frozenset[str]) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name in ours or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def address_of(request: Request) -> str:
    """Where a request comes from; a proxy that is trusted was asked already."""
    return request.client.host if request.client else "?"


def who_asks(request: Request) -> Who:
    door: Door = request.app.state.door
    return door.who(request)


def must(request: Request, role: Role) -> Who:
    """Whoever asks, if they have the role. Raises ``Refused``: 401 when a login could help, 403 when not."""
    who = who_asks(request)
    if who.role < role:
        if not who.name:
            raise Refused(401, "this needs a login", hint="log in, or send a token: Authorization: Bearer ...")
        raise Refused(403, f"{who.name} is a {who.role.name.lower()}, this needs {role.name.lower()}")
    return who


def may_change(request: Request, role: Role, token: str, deed: str, about: str) -> Who:
    """The same for what changes something: from our own page or by a token, and written down."""
    who = must(request, role)
    if who.csrf and not secrets.compare_digest(who.csrf.encode(), token.encode("utf-8", "replace")):
        raise Refused(403, "this did not come from a page of this login", hint="load the page again and try again")
    door: Door = request.app.state.door
    door.audit.note(who.name, address_of(request), deed, about)
    return who


async def _failed(request: Request, error: Exception) -> Response:
    """Every error, as a problem for programs and as a page for people."""
    problem = _as_refused(error)
    if request.url.path.startswith(("/api/", "/healthz", "/readyz", "/metrics")):
        return _problem(problem)
    if problem.status == 401:
        return RedirectResponse(f"/login?next={_next_of(request)}", status_code=303)
    from xobackup.web.pages import error_page

    return error_page(request, problem)


def _next_of(request: Request) -> str:
    from urllib.parse import quote

    whole = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return quote(whole if request.method == "GET" else "/", safe="")


def _as_refused(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        return Refused(error.status_code, str(error.detail))
    if isinstance(error, RequestValidationError):
        told = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        return Refused(422, told)
    if isinstance(error, (HistoryError, StateUnreadable)):
        return Refused(503, str(error), hint=getattr(error, "hint", ""))
    if isinstance(error, OSError):
        return Refused(503, f"{error}", hint="is the state directory there, writable, and not full?")
    return Refused(500, f"{type(error).__name__}: this is a bug of xobackup; its log has more")


TITLES = {
    400: "Bad request", 401: "Not logged in", 403: "Not allowed", 404: "Not found", 405: "Not possible",
    409: "Conflict", 413: "Too large", 421: "Misdirected", 422: "Not understood", 429: "Too many tries",
    500: "Internal error", 503: "Not available",
}  # fmt: skip


def _problem(error: Refused) -> JSONResponse:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": str(error),
    }
    if error.hint:
        body["hint"] = error.hint
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return JSONResponse(body, status_code=error.status, media_type="application/problem+json", headers=headers)
