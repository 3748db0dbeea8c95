from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.xapi.errors import ProtocolError
from xobackup.xapi.values import NULL_REF, decode_result, format_time, is_null, parse_time

MOMENT = datetime(2026, 4, 2, 10, 11, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "20260402T10:11:12Z",
        "20260402T101112Z",
        "20260402T10:11:12",
        "2026-04-02T10:11:12Z",
        "2026-04-02T10:11:12",
        "2026-04-02T12:11:12+02:00",
        "2026-04-02T12:11:12+0200",
        "2026-04-02T05:11:12-05",
        "2026-04-02T10:11:12.000Z",
        "1775124672",
        1775124672,
        1775124672.0,
    ],
)
def test_every_form_of_time_met_in_the_wild_is_read(text: object) -> None:
    assert parse_time(text) == MOMENT


@pytest.mark.parametrize(
    "text", ["19700101T00:00:00Z", "", "0", "soon", None, True, "20261399T10:11:12Z", float("nan"), [], "9" * 30]
)
def test_never_and_nonsense_are_none(text: object) -> None:
    assert parse_time(text) is None


def test_a_time_is_written_as_xapi_writes_it() -> None:
    assert format_time(MOMENT) == "20260402T10:11:12Z"
    assert parse_time(format_time(MOMENT)) == MOMENT


@pytest.mark.parametrize("ref", [NULL_REF, "", "Ref:12", None, 0])
def test_all_null_references_are_null(ref: object) -> None:
    assert is_null(ref)


def test_a_reference_is_not_null() -> None:
    assert not is_null("OpaqueRef:0b7d2a5c")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("<value></value>", None),
        ("<value/>", None),
        ("<value>OpaqueRef:1</value>", "OpaqueRef:1"),
        ("<value><string>a &amp; b</string></value>", "a & b"),
        ("OpaqueRef:1", "OpaqueRef:1"),
        ("<value><array><data><value>a</value><value>b</value></data></array></value>", ["a", "b"]),
        ("<value><array><data/></array></value>", []),
        ("<value><struct><member><name>k</name><value>v</value></member></struct></value>", {"k": "v"}),
        (None, None),
        (5, None),
    ],
)
def test_a_tasks_result_is_decoded(text: object, value: object) -> None:
    assert decode_result(text) == value


@pytest.mark.parametrize(
    "text", ["<value><a>", '<value><!DOCTYPE x [<!ENTITY a "b">]>&a;</value>', "<value>" * 100 + "</value>" * 100]
)
def test_a_bad_result_is_a_protocol_error_or_harmless(text: str) -> None:
    try:
        decode_result(text)
    except ProtocolError:
        return
    assert "ENTITY" not in text


def test_entities_are_never_expanded() -> None:
    with pytest.raises(ProtocolError):
        decode_result('<value><?xml version="1.0"?><!DOCTYPE x></value>')


def test_a_deep_result_is_refused() -> None:
    array = "<value><array><data>" * 40 + "<value>x</value>" + "</data></array></value>" * 40
    with pytest.raises(ProtocolError, match="deep"):
        decode_result(array)


@given(st.text() | st.text().map(lambda text: f"<value>{text}</value>"))
def test_any_result_decodes_or_raises_its_own_error(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        decode_result(text)
