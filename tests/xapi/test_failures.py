from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.xapi import errors
from xobackup.xapi.failures import classify, failure, from_error_info, from_text, full_needed


@pytest.mark.parametrize(
    ("code", "cls", "transient"),
    [
        ("VDI_IN_USE", errors.Busy, True),
        ("OTHER_OPERATION_IN_PROGRESS", errors.Busy, True),
        ("TOO_MANY_PENDING_TASKS", errors.Busy, True),
        ("HOST_STILL_BOOTING", errors.Busy, True),
        ("SR_BACKEND_FAILURE_46", errors.Busy, True),
        ("SR_BACKEND_FAILURE_201", errors.Busy, True),
        ("SESSION_INVALID", errors.SessionInvalid, False),
        ("HOST_IS_SLAVE", errors.HostIsSlave, False),
        ("SESSION_AUTHENTICATION_FAILED", errors.LoginError, False),
        ("UUID_INVALID", errors.NotFound, False),
        ("VDI_NO_CBT_METADATA", errors.FullNeeded, False),
        ("SR_BACKEND_FAILURE_460", errors.FullNeeded, False),
        ("SR_BACKEND_FAILURE_44", errors.OutOfSpace, False),
        ("SR_BACKEND_FAILURE_109", errors.OperatorProblem, False),
        ("LICENCE_RESTRICTION", errors.OperatorProblem, False),
        ("LICENSE_RESTRICTION", errors.OperatorProblem, False),
        ("RBAC_PERMISSION_DENIED", errors.OperatorProblem, False),
        ("MESSAGE_METHOD_UNKNOWN", errors.NotSupported, False),
        ("VDI_IO_ERROR", errors.HostTrouble, False),
        ("XENAPI_PLUGIN_FAILURE", errors.HostTrouble, False),
        ("SR_BACKEND_FAILURE_1200", errors.HostTrouble, False),
        ("SOMETHING_NEW", errors.XapiFailure, False),
    ],
)
def test_a_code_has_its_meaning(code: str, cls: type[errors.XapiFailure], transient: bool) -> None:
    error = failure(code, ["a", "b"])
    assert type(error) is cls
    assert error.transient is transient
    assert (error.code, error.params) == (code, ("a", "b"))


def test_operator_problems_say_what_to_do() -> None:
    for code in ("SR_BACKEND_FAILURE_44", "SR_HAS_NO_PBDS", "RBAC_PERMISSION_DENIED", "OPERATION_BLOCKED"):
        assert classify(code).hint


def test_a_sentence_names_the_parameters() -> None:
    error = failure("VM_BAD_POWER_STATE", ["OpaqueRef:1", "halted, suspended", "running"], method="VM.destroy")
    assert str(error) == (
        "VM.destroy: VM_BAD_POWER_STATE (VM OpaqueRef:1, expected halted, suspended, found running)"
    )


def test_a_storage_failure_says_its_description() -> None:
    error = failure("SR_BACKEND_FAILURE_46", ["", "The VDI is not available [opterr=VDI x not detached]", ""])
    assert "The VDI is not available [opterr=VDI x not detached]" in str(error)


def test_a_storage_failure_without_description_gets_one() -> None:
    assert "the snapshot chain is too long" in str(failure("SR_BACKEND_FAILURE_109", ["", "", ""]))


def test_vdi_in_use_without_parameters_is_fine() -> None:
    assert str(failure("VDI_IN_USE")) == "VDI_IN_USE"


def test_a_session_reference_never_gets_into_a_message() -> None:
    assert "secret" not in str(failure("SESSION_INVALID", ["OpaqueRef:secret"]))
    assert "secret" not in str(failure("HANDLE_INVALID", ["session", "OpaqueRef:secret"]))


def test_internal_errors_about_the_base_ask_for_a_full() -> None:
    error = failure("INTERNAL_ERROR", ['(Failure "base VDI is not a vhd; cannot compute differences: x")'])
    assert isinstance(error, errors.FullNeeded)
    assert full_needed(error)
    assert not full_needed(failure("INTERNAL_ERROR", ["Unix_error EIO"]))


def test_only_the_missing_base_asks_for_a_full() -> None:
    gone = failure("HANDLE_INVALID", ["VDI", "OpaqueRef:base"])
    assert full_needed(gone, base=["OpaqueRef:base", "uuid"])
    assert not full_needed(gone, base=["OpaqueRef:other", ""])
    assert not full_needed(gone)


def test_an_error_page_gives_its_code() -> None:
    error = from_text("500 internal: Server_error(UUID_INVALID, [ VDI; 1234 ]) see log")
    assert isinstance(error, errors.NotFound)
    assert error.params == ("VDI", "1234")
    assert from_text("404 NOT_FOUND_AT_ALL here") is None


def test_error_info_of_odd_shapes_is_still_a_failure() -> None:
    for info in ([], None, "text", {"a": 1}):
        assert isinstance(from_error_info(info), errors.HostTrouble)
    assert from_error_info([1, 2]).code == "1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.lists(JSON, max_size=4))
def test_any_failure_has_a_printable_message(code: object, params: list[object]) -> None:
    error = failure(code, params)
    assert str(error).encode("utf-8")
    assert len(str(error)) < 6000


def test_a_peers_text_is_cleaned() -> None:
    page = b"<html><script>x</script><h1>no</h1>\x1b[31m /export?vdi=1&session_id=OpaqueRef:abc&x=1\r\n\xff</html>"
    text = errors.text_of_html(page)
    assert "OpaqueRef:abc" not in text
    assert "\x1b" not in text
    assert "<h1>" not in text
    assert "session_id=***" in text


def test_a_known_secret_is_cut_out_wherever_it_stands() -> None:
    assert "s3cret" not in errors.clean_text("handle s3cret is bad", secrets=["s3cret", ""])
