from __future__ import annotations

import base64
from typing import Any

import pytest

from vhd.block import BLOCK_BYTES
from xobackup.xapi.cbt import (
    CbtRefusal,
    Why,
    changed_between,
    delta_refusal,
    destroy_data,
    enable,
    enable_refusal,
)
from xobackup.xapi.changed_blocks import ChangedBlocks
from xobackup.xapi.errors import Busy, NotFound, OperatorProblem
from xobackup.xapi.records import SmRecord, VdiRecord
from xobackup.xapi.session import Session
from xotest.scripted_xapi import Fail, ScriptedXapi

LIVE, BASE, SNAPSHOT = "OpaqueRef:live", "OpaqueRef:base", "OpaqueRef:snapshot"


def vdi(ref: str, **fields: Any) -> VdiRecord:
    raw: dict[str, Any] = {
        "uuid": f"uuid of {ref}",
        "virtual_size": str(4 * BLOCK_BYTES),
        "type": "user",
        "on_boot": "persist",
        "cbt_enabled": True,
        "is_a_snapshot": ref != LIVE,
        "snapshot_of": LIVE if ref != LIVE else "OpaqueRef:NULL",
        **fields,
    }
    return VdiRecord.parse(ref, {key: value for key, value in raw.items() if value is not None})


def sm(*features: str) -> SmRecord:
    return SmRecord.parse("OpaqueRef:sm", {"type": "linstor", "features": dict.fromkeys(features, "1")})


def test_two_snapshots_of_a_tracked_disk_are_fine_also_when_the_older_lost_its_data() -> None:
    for kind in ("user", "cbt_metadata"):
        found = delta_refusal(live=vdi(LIVE), base=vdi(BASE, type=kind), snapshot=vdi(SNAPSHOT))
        assert found is None


@pytest.mark.parametrize(
    ("live", "base", "snapshot", "why"),
    [
        ({}, {}, {"cbt_enabled": None}, Why.OLD_HOST),
        ({}, None, {}, Why.BASE_GONE),
        ({}, {}, {"type": "cbt_metadata"}, Why.SNAPSHOT_WITHOUT_DATA),
        ({}, {"snapshot_of": "OpaqueRef:other"}, {}, Why.OTHER_DISK),
        ({}, {"cbt_enabled": False}, {}, Why.BASE_OFF),
        ({}, {}, {"cbt_enabled": False}, Why.SNAPSHOT_OFF),
        ({"cbt_enabled": False}, {}, {}, Why.LIVE_OFF),
        ({}, {"virtual_size": str(5 * BLOCK_BYTES)}, {}, Why.SHRUNK),
    ],
)
def test_each_state_has_its_reason(
    live: dict[str, Any], base: dict[str, Any] | None, snapshot: dict[str, Any], why: Why
) -> None:
    older = None if base is None else vdi(BASE, **base)
    found = delta_refusal(live=vdi(LIVE, **live), base=older, snapshot=vdi(SNAPSHOT, **snapshot))
    assert found is not None and found.why is why
    assert str(found).startswith(why.value)


def test_a_grown_disk_is_no_reason() -> None:
    grown = vdi(SNAPSHOT, virtual_size=str(9 * BLOCK_BYTES))
    assert delta_refusal(live=vdi(LIVE), base=vdi(BASE), snapshot=grown) is None


@pytest.mark.parametrize(
    ("fields", "features", "why"),
    [
        ({"cbt_enabled": None}, ("VDI_CONFIG_CBT",), Why.OLD_HOST),
        ({"is_a_snapshot": True}, ("VDI_CONFIG_CBT",), Why.NOT_LIVE),
        ({"type": "suspend"}, ("VDI_CONFIG_CBT",), Why.TYPE),
        ({"on_boot": "reset"}, ("VDI_CONFIG_CBT",), Why.ON_BOOT_RESET),
        ({}, ("VDI_SNAPSHOT",), Why.SR_UNABLE),
        ({}, ("VDI_CONFIG_CBT",), None),
    ],
)
def test_what_cannot_be_tracked_is_known_from_the_records(
    fields: dict[str, Any], features: tuple[str, ...], why: Why | None
) -> None:
    found = enable_refusal(vdi(LIVE, **fields), sm(*features))
    assert (found.why if found else None) is why


def test_tracking_is_switched_on_only_where_it_is_off(host: ScriptedXapi, session: Session) -> None:
    assert enable(session, vdi(LIVE)) is None
    assert host.called("VDI.enable_cbt") == []
    host.queue("VDI.enable_cbt", "")
    assert enable(session, vdi(LIVE, cbt_enabled=False)) is None
    assert [params[1:] for params in host.called("VDI.enable_cbt")] == [[LIVE]]


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (Fail("SR_OPERATION_NOT_SUPPORTED", "OpaqueRef:sr"), Why.SR_UNABLE),
        (Fail("LICENCE_RESTRICTION", "changed_block_tracking"), Why.LICENCE),
        (Fail("SR_BACKEND_FAILURE_457", "", "Unable to activate", ""), Why.FAILED),
        (Fail("MESSAGE_METHOD_UNKNOWN", "VDI.enable_cbt"), Why.OLD_HOST),
        (Fail("OPERATION_NOT_ALLOWED", "VDI is a snapshot: x"), Why.NOT_LIVE),
    ],
)
def test_a_refusal_of_the_pool_is_a_reason(host: ScriptedXapi, session: Session, failure: Fail, why: Why) -> None:
    host.queue("VDI.enable_cbt", failure)
    found = enable(session, vdi(LIVE, cbt_enabled=False))
    assert isinstance(found, CbtRefusal) and found.why is why and failure.code in str(found)


def test_other_failures_are_failures(host: ScriptedXapi, session: Session) -> None:
    host.queue("VDI.enable_cbt", Fail("SR_NOT_ATTACHED", "OpaqueRef:sr"))
    with pytest.raises(OperatorProblem):
        enable(session, vdi(LIVE, cbt_enabled=False))


def test_changes_are_listed_from_the_older_to_the_newer_and_a_busy_disk_is_waited_for(
    host: ScriptedXapi, session: Session
) -> None:
    bitmap = base64.b64encode(bytes([0, 0, 0, 1]) + bytes(12)).decode()
    host.queue("VDI.list_changed_blocks", Fail("VDI_IN_USE", SNAPSHOT, "list_changed_blocks"), bitmap)
    found = changed_between(session, vdi(BASE), vdi(SNAPSHOT))
    assert isinstance(found, ChangedBlocks) and found.block_indexes() == [0] and found.is_changed(31)
    assert [params[1:] for params in host.called("VDI.list_changed_blocks")] == [[BASE, SNAPSHOT]] * 2


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (Fail("SR_BACKEND_FAILURE_460", "", "Source and target VDI are unrelated", ""), Why.UNRELATED),
        (Fail("SR_BACKEND_FAILURE_459", "", "Changed blocks log is in an inconsistent state", ""), Why.INCONSISTENT),
        (Fail("VDI_NO_CBT_METADATA", BASE), Why.BASE_OFF),
        (Fail("HANDLE_INVALID", "VDI", BASE), Why.BASE_GONE),
        (Fail("MESSAGE_METHOD_UNKNOWN", "VDI.list_changed_blocks"), Why.OLD_HOST),
        (Fail("VDI_INCOMPATIBLE_TYPE", BASE, "cbt_metadata"), Why.TYPE),
    ],
)
def test_why_changes_are_not_listed(host: ScriptedXapi, session: Session, failure: Fail, why: Why) -> None:
    host.queue("VDI.list_changed_blocks", failure)
    found = changed_between(session, vdi(BASE), vdi(SNAPSHOT))
    assert isinstance(found, CbtRefusal) and found.why is why


def test_a_newer_snapshot_that_is_gone_is_a_failure(host: ScriptedXapi, session: Session) -> None:
    host.queue("VDI.list_changed_blocks", Fail("HANDLE_INVALID", "VDI", SNAPSHOT))
    with pytest.raises(NotFound):
        changed_between(session, vdi(BASE), vdi(SNAPSHOT))


def test_data_are_destroyed_when_nobody_holds_them_any_more(host: ScriptedXapi, session: Session) -> None:
    busy = Fail("VDI_IN_USE", SNAPSHOT, "data_destroy")
    host.queue("VDI.data_destroy", busy, busy, "")
    destroy_data(session, SNAPSHOT)
    assert len(host.called("VDI.data_destroy")) == 3
    host.queue("VDI.data_destroy", *[busy] * 9)
    with pytest.raises(Busy):
        destroy_data(session, SNAPSHOT)
