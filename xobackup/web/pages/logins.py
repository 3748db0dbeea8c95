"""Who somebody is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from xobackup.web import shown
from xobackup.web.access import Role
from xobackup.web.app import COOKIE, address_of, may_change
from xobackup.web.pages.rendering import door_of, render
from xobackup.web.sessions import LONGEST_S

router = APIRouter()


@router.get("/login", response_class=HTMLResponse)
def login_page(request: Request, next: str = "/") -> Response:
    return render(request, "login.html", next=_ours(next), told="", name="")


@router.post("/login", response_class=HTMLResponse)
def login(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """A session for who knows the password.

    Every try is written down, but for those that are refused unheard: guessing must not fill the disk.
    """
    door, address = door_of(request), address_of(request)
    keys = (f"address {address}", f"name {name}")
    if wait_s := door.throttle.wait_s(*keys):
        told = f"Too many tries. Wait {shown.length(wait_s)}."
        return render(request, "login.html", status=429, next=_ours(next), told=told, name=name)
    user = door.passwords.check(name, password)
    door.audit.note(name, address, "login", ok=user is not None)
    if user is None:
        door.throttle.failed(*keys)
        told = "This name and password do not fit."
        return render(request, "login.html", status=401, next=_ours(next), told=told, name=name)
    door.throttle.succeeded(*keys)
    response = RedirectResponse(_ours(next), status_code=303)
    word = door.sessions.begin(user.name, user.role)
    secure = door.settings.secure
    response.set_cookie(COOKIE, word, max_age=int(LONGEST_S), httponly=True, samesite="lax", secure=secure, path="/")
    return response


@router.post("/logout")
def logout(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Response:
    may_change(request, Role.VIEWER, csrf, "logout", "")
    door_of(request).sessions.end(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/", status_code=303)
    response.delete_cookie(COOKIE, path="/")
    return response


def _ours(address: str) -> str:
    """Where to go after a login: a page of ours, whatever the address says."""
    good = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if good and "\\" not in address else "/"
