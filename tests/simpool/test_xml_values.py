"""XML-RPC values: what clients send is read by type, what the pool sends is read by Python's own decoder."""

from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xobackup.simpool.values import parse_type
from xobackup.simpool.xml_values import MalformedXml, plain, read_call, typed, xml_value


def decoded(value: Any, kind: str) -> Any:
    text = f"<methodResponse><params><param>{xml_value(value, parse_type(kind))}</param></params></methodResponse>"
    return xmlrpc.client.loads(text)[0][0]


def test_a_record_travels_by_the_types_of_its_class() -> None:
    record = {
        "uuid": "u",
        "virtual_size": 4096,
        "managed": True,
        "snapshot_time": "20260402T10:11:12Z",
        "VBDs": ["a"],
    }
    found = decoded(record, "VDI record")
    assert found["virtual_size"] == "4096" and found["managed"] is True and found["VBDs"] == ["a"]
    assert (
        isinstance(found["snapshot_time"], xmlrpc.client.DateTime) and found["snapshot_time"] == "20260402T10:11:12Z"
    )


def test_an_event_batch_counts_in_real_integers_and_carries_typed_records() -> None:
    event = {"id": "7", "timestamp": "0.0", "class": "vdi", "operation": "mod", "ref": "r"}
    batch = {
        "events": [event | {"snapshot": {"virtual_size": 1}}, event],
        "valid_ref_counts": {"vm": 2},
        "token": "t",
    }
    found = decoded(batch, "an event batch")
    assert found["valid_ref_counts"] == {"vm": 2}
    assert found["events"][0]["snapshot"] == {"virtual_size": "1"} and "snapshot" not in found["events"][1]


@pytest.mark.parametrize(
    ("sent", "kind", "value"),
    [
        ("12", "int", 12),
        (12, "int", 12),
        ("-3", "int", -3),
        ("twelve", "int", "twelve"),
        (2.5, "float", 2.5),
        (True, "bool", True),
        ("x", "string", "x"),
        (xmlrpc.client.DateTime("20260402T10:11:12"), "datetime", "20260402T10:11:12"),
        (["1", 2], "int set", [1, 2]),
        ({"a": "1"}, "(string -> int) map", {"a": 1}),
        ({"virtual_size": "5", "other": "6"}, "VDI record", {"virtual_size": 5, "other": "6"}),
        (b"ab", "string", "YWI=\n"),
    ],
)
def test_what_a_client_sends_is_read_by_type(sent: Any, kind: str, value: Any) -> None:
    body = xmlrpc.client.dumps((sent if not isinstance(sent, bytes) else xmlrpc.client.Binary(sent),), "VM.x")
    method, params = read_call(body.encode())
    found = typed(params[0], parse_type(kind))
    assert method == "VM.x" and (found == value or str(found).strip() == str(value).strip())


_LEAVES = st.one_of(st.booleans(), st.text('abc<&>"é', max_size=8), st.floats(-1e6, 1e6), st.integers(-5, 5))


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text("xy", max_size=3), inner)))
def test_anything_python_sends_is_understood(value: Any) -> None:
    assert plain(read_call(xmlrpc.client.dumps((value,), "a.b", allow_none=True).encode())[1][0]) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<methodCall>",
        b"<methodCall><params/></methodCall>",
        b"<other/>",
        b"<methodCall><methodName>a</methodName><params><param><value><int>x</int></value></param></params></methodCall>",
        b"<methodCall><methodName>a</methodName><value/></methodCall>",
        b"<methodCall><methodName>a</methodName><params><param><value><boolean>2</boolean></value></param></params>"
        b"</methodCall>",
        b"<!DOCTYPE a [<!ENTITY e 'x'>]><methodCall><methodName>&e;</methodName></methodCall>",
        b"<methodCall>" + b"<params>" * 100,
    ],
)
def test_what_is_no_call_is_refused_with_one_error(body: bytes) -> None:
    with pytest.raises(MalformedXml):
        read_call(body)


@given(st.binary(max_size=200))
@settings(max_examples=60)
def test_junk_raises_nothing_else(body: bytes) -> None:
    with pytest.raises(MalformedXml):
        read_call(body)
