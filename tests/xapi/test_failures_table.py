"""The table of failures: complete, agreeing with XAPI's own list, with docs/errors.md, and of use to an operator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xobackup.simpool.failures import UNDOCUMENTED, VARIANTS, catalogue
from xobackup.xapi import errors, failure_table, sm_failures
from xobackup.xapi.failure_table import ACTION_OF, MEANINGS, Action
from xobackup.xapi.failures import classify, failure

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
OLD_OR_UNLISTED = {"LICENSE_RESTRICTION", "VDI_IS_SHARABLE", "VM_SNAPSHOT_FAILED"}
TO_BRANCH_ON = {
    Action.WAIT: "VDI_IN_USE OTHER_OPERATION_IN_PROGRESS TOO_MANY_PENDING_TASKS TOO_MANY_STORAGE_MIGRATES "
    "HOST_STILL_BOOTING SR_BACKEND_FAILURE_46 SR_BACKEND_FAILURE_47 SR_BACKEND_FAILURE_201 CANNOT_CONTACT_HOST "
    "HOST_OFFLINE",
    Action.RELOGIN: "SESSION_INVALID",
    Action.FOLLOW: "HOST_IS_SLAVE",
    Action.FULL: "VDI_INCOMPATIBLE_TYPE VDI_NO_CBT_METADATA SR_BACKEND_FAILURE_459 SR_BACKEND_FAILURE_460",
    Action.GONE: "UUID_INVALID HANDLE_INVALID",
    Action.OPERATOR: "SR_BACKEND_FAILURE_44 SR_FULL SR_BACKEND_FAILURE_109 LICENCE_RESTRICTION FEATURE_RESTRICTED "
    "RBAC_PERMISSION_DENIED SR_NOT_ATTACHED SR_HAS_NO_PBDS VDI_MISSING VM_BAD_POWER_STATE OPERATION_BLOCKED "
    "NOT_SUPPORTED_DURING_UPGRADE",
    Action.INVESTIGATE: "INTERNAL_ERROR VDI_IO_ERROR XENAPI_PLUGIN_FAILURE",
    Action.PROBE: "MESSAGE_METHOD_UNKNOWN MESSAGE_PARAMETER_COUNT_MISMATCH",
}
"""What a client must branch on, by what it must do."""


@pytest.mark.parametrize(
    ("action", "code"), [(action, code) for action, codes in TO_BRANCH_ON.items() for code in codes.split()]
)
def test_what_a_client_must_branch_on(action: Action, code: str) -> None:
    assert classify(code).action is action
    assert failure(code, ["", "x", ""]).transient is (action is Action.WAIT)


@pytest.mark.parametrize("code", sorted(MEANINGS))
def test_a_codes_parameters_are_those_that_xapi_sends(code: str) -> None:
    count = len(MEANINGS[code].params)
    if code in VARIANTS:
        assert count == max(VARIANTS[code])
    elif code in UNDOCUMENTED:
        assert count == UNDOCUMENTED[code]
    elif catalogue().get(code) is not None:
        assert count == len(catalogue()[code])
    else:
        assert code in OLD_OR_UNLISTED


@pytest.mark.parametrize(("code", "meaning"), [*failure_table.rows(), *sm_failures.rows()])
def test_every_code_says_what_to_do(code: str, meaning: failure_table.Meaning) -> None:
    error = failure(code, ["a", "b", "c"])
    assert len(error.hint or "") >= 10 and not (error.hint or "").endswith(".")
    assert (type(error) is meaning.cls and ACTION_OF[meaning.cls] is meaning.action) or meaning.action is Action.OURS
    assert ("none needed" in meaning.hint) <= (
        meaning.action in (Action.RELOGIN, Action.FOLLOW, Action.FULL, Action.OURS)
    )


def test_every_number_of_the_storage_manager_has_its_description() -> None:
    for number, text in sm_failures.DESCRIPTIONS.items():
        assert text in str(failure(f"SR_BACKEND_FAILURE_{number}", ["", "", ""]))
    assert len(sm_failures.DESCRIPTIONS) >= 140


def test_a_code_nobody_has_heard_of_points_to_the_logs() -> None:
    error = failure("BRAND_NEW", ["x"])
    assert not error.transient and "xensource.log" in (error.hint or "")
    assert isinstance(failure("SR_BACKEND_FAILURE_9999", ["", "odd", ""]), errors.HostTrouble)


def test_the_page_shows_the_table() -> None:
    listed = re.findall(r"^\| `([A-Z_0-9]+)` \|(.*)\|(.*)\|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    page = {code: (params.strip(), action.strip(), hint.strip()) for code, params, action, hint in listed}
    code = {
        code: (", ".join(meaning.params), meaning.action.value, meaning.hint)
        for code, meaning in (*failure_table.rows(), *sm_failures.rows())
    }
    assert page == {name: (told[0] or _description(name), *told[1:]) for name, told in code.items()}


def _description(name: str) -> str:
    number = name.removeprefix(sm_failures.PREFIX)
    return sm_failures.DESCRIPTIONS[int(number)] if number != name and number.isdigit() else ""
