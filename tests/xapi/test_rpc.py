from __future__ import annotations

import json
import math
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xobackup.clock import SystemClock
from xobackup.xapi import errors
from xobackup.xapi.address import Endpoint
from xobackup.xapi.rpc import REQUEST_BYTES_MAX, RpcClient
from xobackup.xapi.session import Session
from xobackup.xapi.timeouts import Timeouts
from xobackup.xapi.tls import Unverified, context_for
from xotest.scripted_xapi import QUICK, Drop, Fail, Raw, ScriptedXapi, Silence

METHOD = "VM.get_record"


def http(body: bytes, *, status: str = "200 OK", kind: str = "application/json", length: int | None = None) -> Raw:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n"
    return Raw(head.encode() + body)


def client(host: ScriptedXapi) -> RpcClient:
    return RpcClient(host.address().endpoint(), tls=context_for(Unverified()), timeouts=QUICK)


def call(host: ScriptedXapi, answer: Any, *, timeout_s: float | None = None) -> Any:
    host.queue(METHOD, answer)
    rpc = client(host)
    try:
        return rpc.call(METHOD, ["s", "r"], timeout_s=timeout_s)
    finally:
        rpc.close()


def result(text: str) -> Raw:
    return http(f'{{"jsonrpc":"2.0","result":{text},"id":1}}'.encode())


def test_a_request_is_what_xapi_reads(host: ScriptedXapi) -> None:
    call(host, {"uuid": "u"})
    request = host.requests[0]
    assert (request.method, request.path) == ("POST", "/jsonrpc")
    assert request.headers["content-type"] == "application/json"
    assert int(request.headers["content-length"]) > 0
    assert "transfer-encoding" not in request.headers
    assert host.calls == [(METHOD, ["s", "r"])]


def test_one_connection_serves_many_calls(host: ScriptedXapi) -> None:
    rpc = client(host)
    host.queue(METHOD, 1, 2, 3)
    assert [rpc.call(METHOD, []) for _ in range(3)] == [1, 2, 3]
    assert len({id(request.sock) for request in host.requests}) == 1
    rpc.close()


@pytest.mark.parametrize("v1", [False, True])
def test_both_shapes_of_a_failure_are_read(host: ScriptedXapi, v1: bool) -> None:
    with pytest.raises(errors.NotFound) as caught:
        call(host, Fail("HANDLE_INVALID", "VM", "OpaqueRef:1", v1=v1))
    assert (caught.value.code, caught.value.params) == ("HANDLE_INVALID", ("VM", "OpaqueRef:1"))
    assert caught.value.method == METHOD


@pytest.mark.parametrize(
    ("member", "code", "params"),
    [
        ('["A_CODE","x"]', "A_CODE", ("x",)),
        ('{"code":1,"message":"A_CODE","data":["x"]}', "A_CODE", ("x",)),
        ('{"code":1,"message":"A_CODE","data":"x"}', "A_CODE", ("x",)),
        ('{"code":1,"message":"A_CODE"}', "A_CODE", ()),
        ('"A_CODE"', "A_CODE", ()),
    ],
)
def test_odd_failures_keep_their_code(host: ScriptedXapi, member: str, code: str, params: tuple[str, ...]) -> None:
    with pytest.raises(errors.XapiFailure) as caught:
        call(host, http(f'{{"jsonrpc":"2.0","error":{member},"id":1}}'.encode()))
    assert (caught.value.code, caught.value.params) == (code, params)


def test_infinite_and_undefined_numbers_are_read(host: ScriptedXapi) -> None:
    assert call(host, result("Infinity")) == math.inf
    assert math.isnan(call(host, result("NaN")))
    assert call(host, result("9223372036854775807")) == 2**63 - 1


def test_a_void_result_is_a_result(host: ScriptedXapi) -> None:
    assert call(host, http(b'{"result":null,"error":null,"id":1}')) is None
    assert call(host, result('""')) == ""


def test_an_answer_of_several_mebibytes_is_read(host: ScriptedXapi) -> None:
    records = {f"OpaqueRef:{number}": {"name_label": "x" * 1000} for number in range(4000)}
    assert call(host, records) == records


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"id":1}',
        b'{"result":1,"id":2}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_garbage_is_a_protocol_error(host: ScriptedXapi, body: bytes) -> None:
    with pytest.raises(errors.ProtocolError):
        call(host, http(body))


def test_another_web_server_is_recognised(host: ScriptedXapi) -> None:
    with pytest.raises(errors.ProtocolError, match=r"text/html.*<html>") as caught:
        call(host, http(b"<html>login</html>", kind="text/html"))
    assert "XAPI host" in str(caught.value.hint)


def test_the_content_type_alone_does_not_matter(host: ScriptedXapi) -> None:
    assert call(host, http(b'{"result":5,"id":1}', kind="application/json; charset=utf-8")) == 5


@pytest.mark.parametrize("status", ["500 Internal Error", "403 Forbidden", "301 Moved"])
def test_an_http_error_quotes_the_page(host: ScriptedXapi, status: str) -> None:
    with pytest.raises(errors.HttpError, match="Additional information") as caught:
        call(host, http(b"<html><h1> Additional information </h1>Failure</html>", status=status))
    assert caught.value.status == int(status[:3])


def test_an_answer_cut_short_is_a_lost_connection(host: ScriptedXapi) -> None:
    with pytest.raises(errors.ConnectionLost) as caught:
        call(host, http(b'{"result":', length=5000))
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("answer", [Drop(), Raw(b"")])
def test_a_connection_closed_without_an_answer_is_lost(host: ScriptedXapi, answer: object) -> None:
    with pytest.raises(errors.ConnectionLost) as caught:
        call(host, answer)
    assert caught.value.outcome_unknown
    assert METHOD in str(caught.value)


def test_something_that_is_not_http_is_a_protocol_error(host: ScriptedXapi) -> None:
    with pytest.raises(errors.ProtocolError, match="HTTP"):
        call(host, Raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"))


def test_silence_ends_in_a_timeout(host: ScriptedXapi) -> None:
    with pytest.raises(errors.AnswerTimeout, match=r"0\.2 s") as caught:
        call(host, Silence(), timeout_s=0.2)
    assert caught.value.outcome_unknown


def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    endpoint = Endpoint(secure=True, host="127.0.0.1", port=port)
    rpc = RpcClient(endpoint, tls=context_for(Unverified()), timeouts=QUICK)
    with pytest.raises(errors.Unreachable, match=f"127.0.0.1:{port}") as caught:
        rpc.call(METHOD, [])
    assert not caught.value.outcome_unknown
    rpc.close()


def test_a_black_hole_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        endpoint = Endpoint(secure=True, host="127.0.0.1", port=hole.getsockname()[1])
        rpc = RpcClient(endpoint, tls=context_for(Unverified()), timeouts=Timeouts(connect_s=0.2))
        with pytest.raises(errors.Unreachable, match=r"0\.2 s"):
            rpc.call(METHOD, [])
        rpc.close()


def test_a_host_that_cannot_be_resolved_is_unreachable() -> None:
    endpoint = Endpoint(secure=True, host="no-such-host.invalid", port=443)
    rpc = RpcClient(endpoint, tls=context_for(Unverified()), timeouts=QUICK)
    with pytest.raises(errors.Unreachable):
        rpc.call(METHOD, [])
    rpc.close()


def test_a_request_over_the_limit_is_not_sent(host: ScriptedXapi) -> None:
    rpc = client(host)
    with pytest.raises(errors.RequestTooLarge, match=str(REQUEST_BYTES_MAX)):
        rpc.call(METHOD, ["x" * REQUEST_BYTES_MAX])
    assert host.calls == []
    rpc.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.fixed_dictionaries(
    {}, optional={"jsonrpc": JSON, "result": JSON, "error": JSON, "id": JSON | st.just(1)}
)


def decode(body: bytes) -> object:
    rpc = RpcClient(Endpoint(secure=True, host="x", port=1), tls=context_for(Unverified()), timeouts=QUICK)
    try:
        return rpc._result(METHOD, 1, "application/json", body)
    finally:
        rpc.close()


@settings(max_examples=60, deadline=None)
@given((MEMBERS | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_any_answer_gives_a_result_or_our_own_error(body: bytes) -> None:
    try:
        decode(body)
    except errors.XapiError as error:
        assert str(error)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(JSON, min_size=3, max_size=3))
def test_any_answers_to_the_sessions_calls_raise_only_our_own_errors(
    host: ScriptedXapi, answers: list[object]
) -> None:
    """Whatever the host says to starting, watching and reading a task."""
    with Session.connect(host.address(), clock=SystemClock()) as session:
        names = ["Async.VM.snapshot", "event.from", "task.get_record"]
        for name, answer in zip(names, answers, strict=True):
            host._queued[name].clear()
            host.queue(name, answer)
        try:
            session.call_async("VM.snapshot", "OpaqueRef:1", timeout_s=0.1)
        except errors.XapiError as error:
            assert str(error)
