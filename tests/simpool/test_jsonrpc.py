"""JSON-RPC as xapi speaks it: both versions, limits, and what is an HTTP error and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import Options, SimPool
from xotest.simclient import SimClient


def post(client: SimClient, body: bytes, *, path: str = "/jsonrpc", length: bool = True) -> Any:
    headers = {"Content-Length": str(len(body))} if length else {}
    return client.exchange("POST", path, {}, {**headers, "Connection": "close"}, body)


def ask(client: SimClient, **members: Any) -> Any:
    answer = post(client, json.dumps(members).encode())
    assert answer.status == 200
    return json.loads(answer.body)


def test_version_two_answers_in_the_order_jsonrpc_result_id(client: SimClient, pool: SimPool) -> None:
    call = {"jsonrpc": "2.0", "method": "pool.get_all", "params": [client.session], "id": "seven"}
    answer = post(client, json.dumps(call).encode())
    assert answer.body.decode() == f'{{"jsonrpc":"2.0","result":["{pool.toolstack.pool}"],"id":"seven"}}'


def test_version_two_failure_has_code_one_message_and_data(client: SimClient) -> None:
    found = ask(client, jsonrpc="2.0", method="VM.get_record", params=[client.session, "OpaqueRef:no"], id=3)
    assert found == {
        "jsonrpc": "2.0",
        "error": {"code": 1, "message": "HANDLE_INVALID", "data": ["VM", "OpaqueRef:no"]},
        "id": 3,
    }


def test_version_one_has_result_and_error_side_by_side(client: SimClient) -> None:
    good = ask(client, method="VM.get_by_name_label", params=[client.session, "nobody"], id=1)
    assert good == {"result": [], "error": None, "id": 1}
    bad = ask(client, method="VM.get_record", params=["OpaqueRef:x", "OpaqueRef:y"], id=2)
    assert bad == {"result": None, "error": ["SESSION_INVALID", "OpaqueRef:x"], "id": 2}


def test_an_old_host_answers_version_two_in_the_old_shape(tmp_path: Path) -> None:
    with SimPool.start(tmp_path, options=Options(old_error_shape=True)) as pool, SimClient(pool) as client:
        found = ask(client, jsonrpc="2.0", method="VM.get_record", params=["no"], id=1)
        assert found == {
            "result": None,
            "error": ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.get_record", "1", "0"],
            "id": 1,
        }


def test_the_content_type_is_bare_and_names_are_lower_case(client: SimClient) -> None:
    answer = post(client, json.dumps({"jsonrpc": "2.0", "method": "system.listMethods", "id": 1}).encode())
    assert "content-type: application/json" in answer.lines
    assert "cache-control: no-cache, no-store" in answer.lines
    assert "access-control-allow-origin: *" in answer.lines
    assert f"content-length: {len(answer.body)}" in answer.lines


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"jsonrpc":"2.0","method":"pool.get_all","params":[]}',
        b'{"jsonrpc":"2.0","method":"pool.get_all","params":[],"id":null}',
        b'{"jsonrpc":"2.0","method":"pool.get_all","params":[],"id":1.5}',
        b'{"jsonrpc":"2.0","method":"pool.get_all","params":{},"id":1}',
        b'{"method":"pool.get_all","id":1}',
        b'[{"jsonrpc":"2.0","method":"pool.get_all","params":[],"id":1}]',
    ],
)
def test_a_malformed_body_is_an_http_500_with_a_page(body: bytes, client: SimClient) -> None:
    answer = post(client, body)
    assert answer.status_line == "HTTP/1.1 500 Internal Error"
    assert b"<h1> Additional information </h1>" in answer.body


def test_a_body_needs_a_content_length(client: SimClient) -> None:
    answer = post(client, b'{"jsonrpc":"2.0","method":"system.listMethods","id":1}', length=False)
    assert answer.status == 500
    assert b"We require a content-length" in answer.body


def test_a_body_of_more_than_300_kib_is_refused(client: SimClient) -> None:
    call = {"jsonrpc": "2.0", "method": "system.listMethods", "id": 1, "padding": "x" * 307_200}
    assert post(client, json.dumps(call).encode()).status == 500


def test_a_connection_serves_many_calls(client: SimClient) -> None:
    assert client.call("pool.get_all") == client.call("pool.get_all")


def test_void_is_the_empty_string_and_integers_are_numbers(client: SimClient, pool: SimPool) -> None:
    vm = pool.vm_named("guest")
    assert client.call("VM.set_name_description", vm, "text") == ""
    record = client.call("VM.get_record", vm)
    assert record["memory_static_max"] == 1 << 30
    assert record["HVM_shadow_multiplier"] == 1.0
    assert record["is_a_template"] is False
    assert record["snapshot_time"] == "19700101T00:00:00Z"


@pytest.mark.parametrize(
    ("sent", "told"),
    [(b"\xff\xfe", "??"), (b"a\\ud800b", "a?b"), (b"\\u0000", "?"), (b"ok \\u0007", "ok ?")],
)
def test_text_that_xml_cannot_carry_is_refused_by_name(
    client: SimClient, pool: SimPool, sent: bytes, told: str
) -> None:
    """Kept, it would break every answer in XML, and the dump of the database."""
    vm = pool.vm_named("guest")
    call = b'{"jsonrpc":"2.0","id":1,"method":"VM.set_name_label","params":["%s","%s","%s"]}'
    answer = json.loads(post(client, call % (client.session.encode(), vm.encode(), sent)).body)
    assert (answer["error"]["message"], answer["error"]["data"]) == ("INVALID_VALUE", ["name_label", told])
    key = b'{"jsonrpc":"2.0","id":1,"method":"VM.set_platform","params":["%s","%s",{"%s":"x"}]}'
    answer = json.loads(post(client, key % (client.session.encode(), vm.encode(), sent)).body)
    assert answer["error"]["message"] == "INVALID_VALUE"
    assert client.call("VM.get_name_label", vm) == "guest"


def test_integers_have_64_bits(client: SimClient, pool: SimPool) -> None:
    vdi = pool.vdis_of(pool.vm_named("guest"))[0]
    found = ask(client, jsonrpc="2.0", method="VDI.resize", params=[client.session, vdi, 1 << 63], id=1)
    assert found["error"]["message"] == "FIELD_TYPE_ERROR"


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b"[" * 50_000])
def test_a_body_of_brackets_is_refused_like_any_other(client: SimClient, body: bytes) -> None:
    assert post(client, body).status == 500


@pytest.mark.parametrize("length", ["²", "-5", "0x10", ""])
def test_a_length_that_is_no_number_is_no_length(client: SimClient, length: str) -> None:
    head = f"POST /jsonrpc HTTP/1.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    assert client.send_raw(head.encode("latin-1") + b"{}").status == 500
