from __future__ import annotations

from pathlib import Path

import pytest

from xobackup.clock import SystemClock
from xobackup.xapi import errors
from xobackup.xapi.session import Session
from xobackup.xapi.transfer import open_export
from xotest.scripted_xapi import PASSWORD, QUICK, Fail, Request, ScriptedXapi


def good(request: Request) -> None:
    request.ok()
    request.send(b"conectix")
    request.host.end_task(request.task)


def refuse(status: str, text: str = "", version: str = "1.1") -> object:
    def handler(request: Request) -> None:
        body = f"<html><body><h1>{status}</h1>{text}</body></html>".encode()
        request.send(f"HTTP/{version} {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    return handler


def redirect(location: str) -> object:
    def handler(request: Request) -> None:
        request.send(f"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {location}\r\n\r\n".encode())

    return handler


def export(session: Session) -> bytes:
    with open_export(session, "OpaqueRef:vdi", base_ref="OpaqueRef:base") as running:
        buffer = bytearray(64)
        count = running.readinto(memoryview(buffer))
        running.finish()
        return bytes(buffer[:count])


def test_the_request_names_everything(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [good]
    assert export(session) == b"conectix"
    request = host.requests[-3]
    assert (request.method, request.path) == ("GET", "/export_raw_vdi")
    assert request.query["vdi"] == "OpaqueRef:vdi"
    assert request.query["base"] == "OpaqueRef:base"
    assert request.query["format"] == "vhd"
    assert request.query["session_id"] == session.reference()
    assert request.query["task_id"].startswith("OpaqueRef:task")
    assert host.tasks == {}


def test_a_redirect_is_followed_with_the_same_task(host: ScriptedXapi, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with ScriptedXapi(tmp_path / "other") as other:
        both = f"{other.certificate.sha256} {host.certificate.sha256}"
        address = host.address()
        address = type(address)(
            url=host.url, username="root", password=PASSWORD, tls=type(address.tls)(both), timeouts=QUICK
        )
        host.transfers = [redirect(f"{other.url}/export_raw_vdi?x=1")]

        def elsewhere(request: Request) -> None:
            request.ok()
            request.send(b"conectix")
            host.end_task(request.task)

        other.transfers = [elsewhere]
        with Session.connect(address, clock=SystemClock()) as session:
            assert export(session) == b"conectix"
        first = next(request for request in host.requests if request.method == "GET")
        assert first.query == other.requests[0].query


def test_the_other_hosts_certificate_is_checked_too(host: ScriptedXapi, session: Session, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with ScriptedXapi(tmp_path / "other") as other:
        host.transfers = [redirect(f"{other.url}/export_raw_vdi")]
        with pytest.raises(errors.TlsError) as caught:
            export(session)
        assert caught.value.found_sha256
        assert other.requests == []
    assert host.tasks == {}


@pytest.mark.parametrize("location", ["", "nonsense", "ftp://x/", "http://127.0.0.1/x", "https://"])
def test_a_bad_redirect_is_refused(host: ScriptedXapi, session: Session, location: str) -> None:
    host.transfers = [redirect(location)]
    with pytest.raises(errors.TransferError, match="redirected"):
        export(session)
    assert host.tasks == {}


def test_a_redirect_in_a_circle_is_given_up(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [redirect(f"{host.url}/export_raw_vdi")]
    with pytest.raises(errors.TransferError, match="circle"):
        export(session)
    assert len([request for request in host.requests if request.method == "GET"]) == 1
    assert host.tasks == {}


def test_401_renews_the_session_once_and_keeps_the_task(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [refuse("401 Unauthorised"), good]
    assert export(session) == b"conectix"
    assert len(host.called("session.login_with_password")) == 2
    assert len(host.called("task.create")) == 1


def test_401_for_ever_ends_the_task_that_the_handler_left_pending(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [refuse("401 Unauthorised")]
    with pytest.raises(errors.TransferRefused) as caught:
        export(session)
    assert caught.value.status == 401
    assert host.tasks == {}
    assert [params[2] for params in host.called("task.set_status")] == ["cancelled"]


def test_403_gives_the_tasks_reason(host: ScriptedXapi, session: Session) -> None:
    def forbid(request: Request) -> None:
        host.end_task(request.task, error=["RBAC_PERMISSION_DENIED", "http/export_raw_vdi", "no"])
        refuse("403 Forbidden")(request)

    host.transfers = [forbid]
    with pytest.raises(errors.OperatorProblem, match="RBAC_PERMISSION_DENIED"):
        export(session)


def test_404_gives_the_tasks_reason(host: ScriptedXapi, session: Session) -> None:
    def unknown(request: Request) -> None:
        refuse("404 Not Found", version="1.0")(request)
        host.end_task(request.task, error=["INTERNAL_ERROR", "Unknown format x"])

    host.transfers = [unknown]
    with pytest.raises(errors.HostTrouble, match="Unknown format x"):
        export(session)


def test_500_with_a_code_in_the_page_gives_that_failure(host: ScriptedXapi, session: Session) -> None:
    text = "Server_error(HANDLE_INVALID, [ VDI; OpaqueRef:base ])"
    host.transfers = [refuse("500 Internal Error", text)]
    with pytest.raises(errors.NotFound) as caught:
        export(session)
    assert caught.value.params == ("VDI", "OpaqueRef:base")


def test_500_without_a_code_quotes_the_page_but_not_the_session(host: ScriptedXapi, session: Session) -> None:
    page = f"Missing vdi query parameter in /export_raw_vdi?session_id={session.reference()} {session.reference()}"
    host.transfers = [refuse("500 Internal Error", page)]
    with pytest.raises(errors.TransferRefused, match="Missing vdi query parameter") as caught:
        export(session)
    assert session.reference() not in str(caught.value)
    assert caught.value.status == 500


def test_a_connection_broken_before_the_answer_gives_the_tasks_reason(host: ScriptedXapi, session: Session) -> None:
    def die(request: Request) -> None:
        host.end_task(request.task, error=["SR_BACKEND_FAILURE_46", "", "not available", ""])
        request.reset()

    host.transfers = [die]
    with pytest.raises(errors.Busy, match="not available"):
        export(session)
    host.transfers = [lambda request: request.reset()]
    with pytest.raises(errors.ConnectionLost):
        export(session)
    assert host.tasks == {}


def test_silence_instead_of_an_answer_is_a_timeout(host: ScriptedXapi) -> None:
    import dataclasses
    import threading

    release = threading.Event()
    host.transfers = [lambda request: release.wait(5)]
    with (
        host.connect(timeouts=dataclasses.replace(QUICK, first_byte_s=0.1)) as session,
        pytest.raises(errors.AnswerTimeout),
    ):
        export(session)
    release.set()
    assert host.tasks == {}


def test_a_task_that_cannot_be_made_is_the_error(host: ScriptedXapi, session: Session) -> None:
    host.queue("task.create", Fail("RBAC_PERMISSION_DENIED", "task.create", "no"))
    with pytest.raises(errors.OperatorProblem):
        export(session)
    host.queue("task.create", 5)
    with pytest.raises(errors.ProtocolError):
        export(session)
