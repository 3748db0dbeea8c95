"""Generated messages: reading and writing records, and what stays consistent behind them."""

from __future__ import annotations

import pytest

from xobackup.simpool import SimPool
from xotest.simclient import RpcFailure, SimClient


@pytest.fixture
def vm(pool: SimPool) -> str:
    return pool.vm_named("guest")


def test_adding_an_existing_key_is_a_duplicate(client: SimClient, vm: str) -> None:
    client.call("VM.add_to_other_config", vm, "key", "one")
    with pytest.raises(RpcFailure) as caught:
        client.call("VM.add_to_other_config", vm, "key", "two")
    assert (caught.value.code, caught.value.params) == ("MAP_DUPLICATE_KEY", ["VM", "other_config", vm, "key"])
    client.call("VM.remove_from_other_config", vm, "key")
    client.call("VM.remove_from_other_config", vm, "key")  # a missing key is no error
    client.call("VM.add_to_other_config", vm, "key", "two")
    assert client.call("VM.get_other_config", vm)["key"] == "two"


def test_sets_take_each_value_once(client: SimClient, vm: str) -> None:
    client.call("VM.add_tags", vm, "extra")
    client.call("VM.add_tags", vm, "extra")
    assert client.call("VM.get_tags", vm) == ["nightly", "extra"]
    client.call("VM.remove_tags", vm, "nightly")
    client.call("VM.remove_tags", vm, "never there")
    assert client.call("VM.get_tags", vm) == ["extra"]


def test_references_and_uuids_that_do_not_exist(client: SimClient) -> None:
    for method, code in (("VDI.get_record", "HANDLE_INVALID"), ("VDI.get_by_uuid", "UUID_INVALID")):
        with pytest.raises(RpcFailure) as caught:
            client.call(method, "OpaqueRef:NULL")
        assert (caught.value.code, caught.value.params) == (code, ["VDI", "OpaqueRef:NULL"])


def test_records_by_uuid_and_by_name(client: SimClient, vm: str) -> None:
    record = client.call("VM.get_record", vm)
    assert client.call("VM.get_by_uuid", record["uuid"]) == vm
    assert client.call("VM.get_by_name_label", "guest") == [vm]
    assert client.call("VM.get_all_records")[vm] == record


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("true", 4),
        ('field "name__label" = "guest"', 1),
        ('not (field "is_control_domain" = "true")', 3),
        ('(field "power_state" = "Halted" and field "is_a_template" = "false")', 1),
        ('(field "name__label" = "guest" or field "name__label" = "idle")', 2),
        ('field "tags" = "(\'nightly\')"', 1),
        ('field "blocked_operations" = "()"', 4),
        ('(not field "name__label" = "guest" and (true or field "domid" = "0"))', 3),
    ],
)
def test_the_language_of_where(expression: str, count: int, client: SimClient) -> None:
    assert len(client.call("VM.get_all_records_where", expression)) == count


@pytest.mark.parametrize(
    "expression", ["", "field", "(true", "true true", 'field "x" "y"', "§", "(true and)", "not " * 9000 + "true"]
)
def test_a_broken_expression_is_an_invalid_value(expression: str, client: SimClient) -> None:
    with pytest.raises(RpcFailure) as caught:
        client.call("VM.get_all_records_where", expression)
    assert (caught.value.code, caught.value.params) == ("INVALID_VALUE", ["expr", expression])


def test_create_names_the_member_that_is_missing(client: SimClient) -> None:
    with pytest.raises(RpcFailure) as caught:
        client.call("secret.create", {"other_config": {}})
    assert caught.value.code == "Dispatcher_FieldNotFound"
    secret = client.call("secret.create", {"value": "hush", "unknown": 1})
    assert client.call("secret.get_value", secret) == "hush"
    client.call("secret.destroy", secret)
    assert client.call("secret.get_all") == []


def test_a_control_domain_and_all_links_of_the_pool_resolve(client: SimClient) -> None:
    """Every reference in every record names an object that exists, or is null."""
    tables = {
        name.partition(".")[0]: client.call(name)
        for name in client.raw_call("system.listMethods")
        if name.endswith(".get_all_records") and not name.startswith("VMPP")
    }
    known = {ref for table in tables.values() for ref in table} | {"OpaqueRef:NULL"}
    for cls, table in tables.items():
        for record in table.values():
            for name, value in record.items():
                refs = value if isinstance(value, list) else [value]
                for ref in refs:
                    assert not (isinstance(ref, str) and ref.startswith("OpaqueRef:")) or ref in known, (cls, name)
