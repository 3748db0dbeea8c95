"""session and system messages."""

from __future__ import annotations

from xobackup.simpool.registry import Call, message


@message("session.login_with_password", session=False, locked=False)
def login_with_password(call: Call, uname: str, pwd: str, version: str = "", originator: str = "") -> str:
    del version  # xapi ignores it too
    return call.toolstack.sessions.login(uname, pwd, originator)


@message("session.logout")
def logout(call: Call) -> None:
    call.toolstack.sessions.end(call.session)


@message("session.local_logout")
def local_logout(call: Call) -> None:
    call.toolstack.sessions.end(call.session)


@message("system.listMethods", session=False)
def list_methods(call: Call) -> list[str]:
    return call.toolstack.list_methods()
