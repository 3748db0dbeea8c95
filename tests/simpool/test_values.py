"""Types of the data model, dates as found in the wild, and XML-RPC text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.simpool.failures import Failure
from xobackup.simpool.model import load_model
from xobackup.simpool.values import check_value, date_text, parse_date, parse_type
from xobackup.simpool.xml_values import result_text, xml_value

WRONG = Failure("FIELD_TYPE_ERROR", "x")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("20260402T10:11:12Z", "20260402T10:11:12Z"),
        ("20260402T10:11:12", "20260402T10:11:12Z"),
        ("2026-04-02T10:11:12Z", "20260402T10:11:12Z"),
        ("2026-04-02T10:11:12.345Z", "20260402T10:11:12Z"),
        ("2026-04-02T10:11:12+02:00", "20260402T08:11:12Z"),
        ("20260402T101112-0130", "20260402T11:41:12Z"),
        ("2026-04-02T10:11:12+02", "20260402T08:11:12Z"),
    ],
)
def test_dates_are_taken_in_every_spelling_and_kept_in_one(text: str, normal: str) -> None:
    assert parse_date(text, WRONG) == normal


@pytest.mark.parametrize("text", ["", "yesterday", "20260402", "2026-04-02 10:11:12", "1234567890"])
def test_what_is_no_date_is_a_type_error(text: str) -> None:
    with pytest.raises(Failure, match="FIELD_TYPE_ERROR"):
        parse_date(text, WRONG)


@given(st.integers(0, 4_000_000_000))
def test_dates_written_are_read_back(seconds: int) -> None:
    assert parse_date(date_text(seconds), WRONG) == date_text(seconds)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (5, "int", "<value>5</value>"),
        (True, "bool", "<value><boolean>1</boolean></value>"),
        (0.25, "float", "<value><double>0.25</double></value>"),
        ("a<b&c", "string", "<value>a&lt;b&amp;c</value>"),
        ("OpaqueRef:1", "VM ref", "<value>OpaqueRef:1</value>"),
        ("20260402T10:11:12Z", "datetime", "<value><dateTime.iso8601>20260402T10:11:12Z</dateTime.iso8601></value>"),
        (["a"], "string set", "<value><array><data><value>a</value></data></array></value>"),
        (
            {"k": 1},
            "(string -> int) map",
            "<value><struct><member><name>k</name><value>1</value></member></struct></value>",
        ),
    ],
)
def test_xml_rpc_text(value: object, kind: str, text: str) -> None:
    assert xml_value(value, parse_type(kind)) == text


def test_a_void_result_is_empty() -> None:
    assert result_text(None, "void") == ""


def test_integers_may_come_as_whole_floats_and_floats_as_integers() -> None:
    assert check_value(3.0, parse_type("int"), "f", {}) == 3
    assert check_value(30, parse_type("float"), "timeout", {}) == 30.0
    for value in (3.5, "3", True, None):
        with pytest.raises(Failure, match="FIELD_TYPE_ERROR"):
            check_value(value, parse_type("int"), "f", {})


def test_an_empty_reference_is_the_null_reference() -> None:
    assert check_value("", parse_type("VM ref"), "f", {}) == "OpaqueRef:NULL"


def test_every_default_of_the_model_has_its_fields_type() -> None:
    for cls in load_model().values():
        for name, field in cls.fields.items():
            if field.type.kind not in ("record", "option"):
                assert check_value(field.initial(), field.type, name, {}) == field.initial(), (cls.name, name)


def test_a_failure_with_the_wrong_number_of_parameters_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Failure("VM_BAD_POWER_STATE", "only one")
    with pytest.raises(KeyError):
        Failure("NO_SUCH_CODE")
