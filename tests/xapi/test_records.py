from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.xapi.errors import BadRecord
from xobackup.xapi.records import HostRecord, PbdRecord, PoolRecord, SmRecord, SrRecord, VdiRecord
from xobackup.xapi.vm_records import NetworkRecord, VbdRecord, VifRecord, VmRecord, VtpmRecord

ALL = (
    PoolRecord,
    HostRecord,
    SrRecord,
    SmRecord,
    PbdRecord,
    VdiRecord,
    VmRecord,
    VbdRecord,
    VifRecord,
    NetworkRecord,
    VtpmRecord,
)


def vdi(**fields: Any) -> VdiRecord:
    return VdiRecord.parse("OpaqueRef:d", {"uuid": "u", "SR": "OpaqueRef:sr", **fields})


def test_a_disk_is_read() -> None:
    disk = vdi(
        virtual_size=1 << 41,
        is_a_snapshot=True,
        snapshot_of="OpaqueRef:live",
        snapshot_time="20260402T10:11:12Z",
        sm_config={"vhd-parent": "p"},
        VBDs=["OpaqueRef:1", "OpaqueRef:NULL"],
        managed=False,
    )
    assert disk.virtual_size == 1 << 41
    assert disk.snapshot_of == "OpaqueRef:live"
    assert disk.snapshot_time == datetime(2026, 4, 2, 10, 11, 12, tzinfo=UTC)
    assert disk.vhd_parent == "p"
    assert disk.vbds == ("OpaqueRef:1",)
    assert not disk.managed
    assert disk.raw["uuid"] == "u"


def test_records_of_old_hosts_lack_fields() -> None:
    disk = vdi()
    assert (disk.cbt_enabled, disk.managed, disk.snapshot_of, disk.snapshot_time) == (False, True, None, None)


@pytest.mark.parametrize("value", [True, 1, "1", "true", "True"])
def test_booleans_come_in_several_forms(value: object) -> None:
    assert vdi(cbt_enabled=value).cbt_enabled


@pytest.mark.parametrize("value", ["1024", 1024, 1024.0])
def test_integers_come_as_text_too(value: object) -> None:
    assert vdi(virtual_size=value).virtual_size == 1024


@pytest.mark.parametrize("ref", ["OpaqueRef:NULL", "", "Ref:12", None])
def test_null_references_are_none(ref: object) -> None:
    assert VbdRecord.parse("OpaqueRef:v", {"VDI": ref}).vdi is None


@pytest.mark.parametrize(
    "fields",
    [
        {"virtual_size": "big"},
        {"virtual_size": None},
        {"virtual_size": True},
        {"virtual_size": float("nan")},
        {"managed": "perhaps"},
        {"managed": []},
        {"VBDs": "x"},
        {"VBDs": [1]},
        {"sm_config": []},
        {"name_label": 5},
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRecord, match=next(iter(fields))) as caught:
        vdi(**fields)
    assert "VDI OpaqueRef:d" in str(caught.value)


def test_the_order_of_disks_is_numerical() -> None:
    devices = ["10", "2", "0", "autodetect", "1"]
    records = [VbdRecord.parse(device, {"userdevice": device}) for device in devices]
    assert [record.userdevice for record in sorted(records, key=lambda vbd: vbd.position)] == [
        "0",
        "1",
        "2",
        "10",
        "autodetect",
    ]


@pytest.mark.parametrize("field", ["is_a_template", "is_a_snapshot", "is_control_domain", "is_default_template"])
def test_what_is_not_an_ordinary_vm(field: str) -> None:
    assert VmRecord.parse("r", {}).is_ordinary
    assert not VmRecord.parse("r", {field: True}).is_ordinary


def test_a_hosts_product_and_an_srs_space() -> None:
    host = HostRecord.parse("r", {"software_version": {"product_brand": "XCP-ng", "product_version": "8.3.0"}})
    assert host.product == "XCP-ng 8.3.0"
    assert SrRecord.parse("r", {"physical_size": 10, "physical_utilisation": 4}).free_bytes == 6
    assert SrRecord.parse("r", {"physical_size": 1, "physical_utilisation": 4}).free_bytes == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
NAMES = [
    *("uuid", "name_label", "SR", "VDI", "VM", "VBDs", "virtual_size", "managed", "snapshot_time", "other_config"),
    *("tags", "userdevice", "MTU", "MAC", "master", "features", "capabilities", "currently_attached", "empty"),
    *("physical_size", "software_version", "API_version_major", "blocked_operations", "is_a_snapshot"),
]


@given(st.sampled_from(ALL), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6))
def test_any_record_parses_or_raises_our_own_error(cls: Any, raw: dict[str, Any]) -> None:
    try:
        record = cls.parse("OpaqueRef:1", raw)
    except BadRecord as error:
        assert str(error)
    else:
        assert record.raw is raw
