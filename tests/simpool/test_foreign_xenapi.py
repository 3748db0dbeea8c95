"""The official Python SDK (PyPI ``XenAPI``) against the simulated pool: a client that nobody here wrote."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest

from xobackup.simpool import SimPool
from xobackup.simpool.model import WITHOUT_RECORDS, load_model
from xobackup.simpool.values import Type

XenAPI = pytest.importorskip("XenAPI", reason="XenAPI is missing: pip install XenAPI")

RECORDS = sorted(
    name
    for name, cls in load_model().items()
    if name not in WITHOUT_RECORDS and not cls.removed and "get_all_records" in cls.implicit | cls.messages.keys()
)


@pytest.fixture
def sdk(pool: SimPool) -> Iterator[Any]:
    session = XenAPI.Session(pool.url + "/", ignore_ssl=True)
    session.login_with_password(pool.username, pool.password, "1.0", "foreign test")
    yield session
    session.xenapi.session.logout()
    session("close")()


def well_formed(value: Any, kind: Type) -> bool:
    match kind.kind:
        case "bool" | "float":
            return isinstance(value, bool if kind.kind == "bool" else float)
        case "datetime":
            return isinstance(value, xmlrpc.client.DateTime)
        case "int":
            return isinstance(value, str) and int(value) is not None
        case "set":
            return isinstance(value, list) and all(well_formed(item, kind.of[0]) for item in value)
        case "map":
            return isinstance(value, dict) and all(well_formed(item, kind.of[1]) for item in value.values())
    return isinstance(value, str)


def test_every_record_of_every_class_decodes_to_its_types(sdk: Any, pool: SimPool) -> None:
    pool.call("message.create", "TEST", 3, "VM", pool.model.get("VM", pool.vm_named("guest"))["uuid"], "text")
    pool.call("VM.snapshot", pool.vm_named("guest"), "frozen")
    seen = 0
    for name in RECORDS:
        fields = load_model()[name].fields
        for ref, record in getattr(sdk.xenapi, name).get_all_records().items():
            assert set(record) == set(fields), name
            wrong = [key for key, value in record.items() if not well_formed(value, fields[key].type)]
            assert not wrong, f"{name} {ref}: {wrong}"
            seen += 1
    assert seen > 30


def test_lists_of_methods_and_failures_arrive_as_the_sdk_expects(sdk: Any) -> None:
    assert "VM.get_all_records" in sdk.system.listMethods()
    with pytest.raises(XenAPI.Failure) as caught:
        sdk.xenapi.VM.get_record("OpaqueRef:none")
    assert caught.value.details == ["HANDLE_INVALID", "VM", "OpaqueRef:none"]


def test_events_arrive_for_what_another_call_changed(sdk: Any, pool: SimPool) -> None:
    token = sdk.xenapi.event_from(["*"], "", 1.0)["token"]
    vm = sdk.xenapi.VM.get_by_name_label("guest")[0]
    sdk.xenapi.VM.set_name_description(vm, "changed & <marked>")
    batch = sdk.xenapi.event_from(["vm"], token, 5.0)
    changed = [event for event in batch["events"] if event["ref"] == vm]
    assert changed[0]["operation"] == "mod"
    assert changed[0]["snapshot"]["name_description"] == "changed & <marked>"
    assert batch["valid_ref_counts"]["vm"] == len(pool.model.refs("VM"))


def test_a_snapshot_is_made_read_and_destroyed(sdk: Any, pool: SimPool) -> None:
    vm = sdk.xenapi.VM.get_by_name_label("guest")[0]
    task = sdk.xenapi.Async.VM.snapshot(vm, "by the sdk")
    while sdk.xenapi.task.get_status(task) == "pending":
        sdk.xenapi.event_from([f"task/{task}"], "", 1.0)
    result = sdk.xenapi.task.get_result(task)
    snapshot = result.removeprefix("<value>").removesuffix("</value>")
    record = sdk.xenapi.VM.get_record(snapshot)
    assert record["is_a_snapshot"] is True and record["snapshot_of"] == vm
    disks = [sdk.xenapi.VBD.get_VDI(vbd) for vbd in record["VBDs"] if sdk.xenapi.VBD.get_type(vbd) == "Disk"]
    assert sum(int(sdk.xenapi.VDI.get_virtual_size(disk)) for disk in disks) == 20 << 20
    sdk.xenapi.VM.destroy(snapshot)
    for disk in disks:
        sdk.xenapi.VDI.destroy(disk)
    assert not pool.model.exists("VM", snapshot) and not any(pool.model.exists("VDI", disk) for disk in disks)


def test_a_disk_is_created_and_changed_with_integers_as_text(sdk: Any) -> None:
    sr = sdk.xenapi.pool.get_default_SR(sdk.xenapi.pool.get_all()[0])
    disk = {"SR": sr, "virtual_size": str(6 << 20), "type": "user", "sharable": False, "read_only": False}
    vdi = sdk.xenapi.VDI.create({**disk, "name_label": "sdk", "other_config": {}})
    sdk.xenapi.VDI.add_to_other_config(vdi, "key", "value")
    record = sdk.xenapi.VDI.get_record(vdi)
    assert record["virtual_size"] == str(6 << 20) and record["other_config"] == {"key": "value"}
