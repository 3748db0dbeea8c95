"""``/pool/xmldbdump``: out and in, and every way it goes wrong."""

from __future__ import annotations

import pytest

from xobackup.xapi import errors
from xobackup.xapi.pool_database import open_dump, open_restore
from xobackup.xapi.session import Session
from xotest.scripted_xapi import Request, ScriptedXapi

DUMP = b"<database>" + b"<row/>" * 50_000 + b"</database>"


def serve(data: bytes = DUMP, *, error: list[str] | None = None, inner: str = "") -> object:
    def handler(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-cache, no-store\r\n\r\n")
        request.send(data)
        if inner:
            request.inner_500(inner)
        request.host.end_task(request.task, error=error)

    return handler


def fetch(session: Session) -> bytes:
    data, buffer = bytearray(), bytearray(65536)
    with open_dump(session, task_label="dump") as dump:
        while count := dump.readinto(memoryview(buffer)):
            data += buffer[:count]
        dump.finish()
    return bytes(data)


def test_a_dump_ends_with_the_connection_and_its_task(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve()]
    assert fetch(session) == DUMP
    assert host.tasks == {} and host.called("task.create")[0][1] == "dump"
    assert {request.path for request in host.requests if request.method == "GET"} == {"/pool/xmldbdump"}


def test_a_dump_whose_task_fails_is_none(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(error=["INTERNAL_ERROR", "Unix_error"])]
    with pytest.raises(errors.HostTrouble, match="INTERNAL_ERROR"):
        fetch(session)
    assert host.tasks == {}


def test_an_error_in_place_of_the_dump_is_told(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [serve(b"", inner="Server_error(RBAC_PERMISSION_DENIED, [ http/get_pool_xml_db_sync; no ])")]
    with pytest.raises(errors.XapiFailure, match="RBAC_PERMISSION_DENIED"):
        fetch(session)


def test_a_lost_session_is_renewed_once(host: ScriptedXapi, session: Session) -> None:
    def unauthorised(request: Request) -> None:
        request.send(b"HTTP/1.1 401 Unauthorised\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    host.transfers = [unauthorised, serve()]
    assert fetch(session) == DUMP
    assert len(host.called("session.login_with_password")) == 2
    host.transfers = [unauthorised]
    with pytest.raises(errors.TransferRefused, match="401"):
        fetch(session)
    assert host.tasks == {}, "nobody adopted the task: we end it"


def test_a_redirect_is_followed(host: ScriptedXapi, session: Session) -> None:
    def elsewhere(request: Request) -> None:
        target = (
            f"https://localhost:{host.port}{request.path}?{'&'.join(f'{k}={v}' for k, v in request.query.items())}"
        )
        request.send(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nConnection: close\r\n\r\n".encode())

    host.transfers = [elsewhere, serve()]
    assert fetch(session) == DUMP


def taking(seen: list[bytes], *, error: list[str] | None = None) -> object:
    def handler(request: Request) -> None:
        request.ok()
        seen.append(request.body())
        request.host.end_task(request.task, error=error)

    return handler


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dump_goes_in_with_its_length_and_without_a_probe(
    host: ScriptedXapi, session: Session, dry_run: bool
) -> None:
    seen: list[bytes] = []
    host.transfers = [taking(seen)]
    with open_restore(session, length_bytes=len(DUMP), dry_run=dry_run) as transfer:
        transfer.write(DUMP)
        transfer.finish()
    assert seen == [DUMP], "an empty body would be a database too"
    (request,) = [request for request in host.requests if request.method == "PUT"]
    assert request.query.get("dry_run") == ("true" if dry_run else None) and request.length == len(DUMP)


def put(session: Session, *, dry_run: bool) -> None:
    with open_restore(session, length_bytes=3, dry_run=dry_run) as transfer:
        transfer.write(b"<a>")
        transfer.finish()


def test_the_pools_refusal_is_its_own_sentence(host: ScriptedXapi, session: Session) -> None:
    host.transfers = [taking([], error=["RESTORE_TARGET_MISSING_DEVICE", "eth3"])]
    with pytest.raises(errors.OperatorProblem, match="eth3") as caught:
        put(session, dry_run=True)
    assert caught.value.hint and "network interface" in caught.value.hint


def test_a_task_that_goes_with_the_restart_leaves_the_outcome_open(host: ScriptedXapi, session: Session) -> None:
    def restarting(request: Request) -> None:
        request.ok()
        request.body()
        request.host.drop_task(request.task)

    host.transfers = [restarting]
    with pytest.raises(errors.OutcomeUnknown), open_restore(session, length_bytes=3, dry_run=False) as transfer:
        transfer.write(b"<a>")
        transfer.finish()
