"""XML-RPC as xapi speaks it: paths, envelopes, faults that are none."""

from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest

from xobackup.simpool import SimPool
from xotest.simclient import SimClient


def ask(client: SimClient, method: str, *params: Any, path: str = "/") -> Any:
    body = xmlrpc.client.dumps(params, method).encode()
    answer = client.exchange("POST", path, {}, {"Content-Length": str(len(body)), "Connection": "close"}, body)
    assert answer.status == 200 and "content-type: text/xml" in answer.lines
    return xmlrpc.client.loads(answer.body)[0][0]


@pytest.mark.parametrize("path", ["/", "/RPC2", "/xmlrpc", "/json"])
def test_every_path_without_a_handler_of_its_own_is_xml_rpc(client: SimClient, pool: SimPool, path: str) -> None:
    expected = {"Status": "Success", "Value": [pool.toolstack.pool]}
    assert ask(client, "pool.get_all", client.session, path=path) == expected


def test_failures_are_structs_with_code_and_parameters(client: SimClient) -> None:
    failed = ask(client, "VM.get_by_uuid", client.session, "none")
    assert failed == {"Status": "Failure", "ErrorDescription": ["UUID_INVALID", "VM", "none"]}
    unknown = ask(client, "VM.fly", client.session)
    assert unknown["ErrorDescription"] == ["MESSAGE_METHOD_UNKNOWN", "VM.fly"]
    no_async = ask(client, "Async.VM.get_record", client.session, "x")
    assert no_async["ErrorDescription"][0] == "Fault"


def test_list_methods_alone_is_a_bare_array(client: SimClient) -> None:
    assert "VM.snapshot" in ask(client, "system.listMethods")


def test_integers_go_as_text_and_come_either_way(client: SimClient, pool: SimPool) -> None:
    vdi = pool.vdis_of(pool.vm_named("idle"))[0]
    size = pool.model.get("VDI", vdi)["virtual_size"]
    assert ask(client, "VDI.get_virtual_size", client.session, vdi)["Value"] == str(size)
    for spelt in (2 * size, str(4 * size)):
        assert ask(client, "VDI.resize", client.session, vdi, spelt) == {"Status": "Success", "Value": ""}
        assert pool.model.get("VDI", vdi)["virtual_size"] == int(spelt)
    assert ask(client, "VDI.resize", client.session, vdi, "much")["ErrorDescription"][0] == "FIELD_TYPE_ERROR"


def test_a_timeout_must_be_a_double(client: SimClient) -> None:
    assert ask(client, "event.from", client.session, ["pool"], "", "1.0")["ErrorDescription"][0] == "FIELD_TYPE_ERROR"
    assert ask(client, "event_from", client.session, ["pool"], "", 1.0)["Value"]["events"][0]["class"] == "pool"


def test_values_too_deep_in_each_other_are_an_http_error(client: SimClient) -> None:
    deep = "<value><array><data>" * 3000 + "</data></array></value>" * 3000
    call = f"<methodCall><methodName>pool.get_all</methodName><params><param>{deep}</param></params></methodCall>"
    headers = {"Content-Length": str(len(call)), "Connection": "close"}
    assert client.exchange("POST", "/", {}, headers, call.encode()).status == 500


def test_a_body_that_is_no_call_is_an_http_error(client: SimClient) -> None:
    answer = client.exchange("POST", "/", {}, {"Content-Length": "2", "Connection": "close"}, b"{}")
    assert answer.status == 500 and b"Additional information" in answer.body
