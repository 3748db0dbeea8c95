"""Names, sessions, counts, types: the order of the checks before a message is carried out."""

from __future__ import annotations

import random

import pytest

from xobackup.simpool import SimPool
from xobackup.simpool.dispatch import canonical
from xobackup.simpool.failures import Failure
from xotest.simclient import RpcFailure, SimClient


def failure(client: SimClient, method: str, *params: object, session: bool = True) -> tuple[str, list[str]]:
    with pytest.raises(RpcFailure) as caught:
        client.raw_call(method, *([client.session] if session else []), *params)
    return caught.value.code, caught.value.params


def test_an_unknown_method_needs_a_good_session_first(client: SimClient) -> None:
    assert failure(client, "VM.fly", "OpaqueRef:bad", session=False) == ("SESSION_INVALID", ["OpaqueRef:bad"])
    assert failure(client, "VM.fly", "OpaqueRef:x") == ("MESSAGE_METHOD_UNKNOWN", ["VM.fly"])
    assert failure(client, "nonsense", session=False) == ("MESSAGE_METHOD_UNKNOWN", ["nonsense"])


def test_the_count_is_checked_before_the_session(client: SimClient) -> None:
    found = failure(client, "VM.get_record", "OpaqueRef:bad", "a", "b", session=False)
    assert found == ("MESSAGE_PARAMETER_COUNT_MISMATCH", ["VM.get_record", "1", "2"])


def test_types_are_checked_before_the_session(client: SimClient, pool: SimPool) -> None:
    vm = pool.vm_named("guest")
    assert failure(client, "VM.set_tags", "OpaqueRef:bad", vm, "no list", session=False) == (
        "FIELD_TYPE_ERROR",
        ["tags"],
    )
    assert failure(client, "VM.set_tags", "OpaqueRef:bad", vm, [], session=False) == (
        "SESSION_INVALID",
        ["OpaqueRef:bad"],
    )


@pytest.mark.parametrize(
    ("method", "value", "field"),
    [
        ("VM.set_user_version", "1", "user_version"),
        ("VM.set_user_version", True, "user_version"),
        ("VM.set_name_label", 3, "name_label"),
        ("VM.set_other_config", [], "other_config"),
        ("VM.set_other_config", {"a": 1}, "other_config"),
        ("VM.set_is_a_template", "false", "is_a_template"),
        ("VM.set_actions_after_shutdown", "explode", "actions_after_shutdown"),
    ],
)
def test_a_wrong_type_names_the_field(
    method: str, value: object, field: str, client: SimClient, pool: SimPool
) -> None:
    assert failure(client, method, pool.vm_named("guest"), value) == ("FIELD_TYPE_ERROR", [field])


def test_setters_of_read_only_fields_do_not_exist(client: SimClient, pool: SimPool) -> None:
    vm = pool.vm_named("guest")
    for method in (
        "VM.set_power_state",
        "VM.set_uuid",
        "VM.set_snapshot_of",
        "VM.set_VBDs",
        "VM.add_to_snapshot_info",
    ):
        assert failure(client, method, vm, "x") == ("MESSAGE_METHOD_UNKNOWN", [method])


def test_an_underscore_may_stand_for_the_dot(client: SimClient) -> None:
    task = client.call("task_create", "mine", "")
    client.call("task_set_status", task, "success")
    assert client.call("task.get_status", task) == "success"
    assert canonical("VM_guest_metrics_get_all") == "VM_guest_metrics.get_all"
    assert canonical("Async.VM_snapshot") == "Async.VM.snapshot"
    assert canonical("host_metrics.get_all") == "host_metrics.get_all"


def test_asynchronous_calls_give_a_task_with_the_result_as_xml(client: SimClient, pool: SimPool) -> None:
    task = client.call("Async.VM.snapshot", pool.vm_named("guest"), "later")
    record = client.wait(task)
    assert (record["name_label"], record["status"], record["progress"]) == ("Async.VM.snapshot", "success", 1.0)
    assert record["result"].startswith("<value>OpaqueRef:")
    assert record["result"].removeprefix("<value>").removesuffix("</value>") in client.call("VM.get_all")


def test_a_failed_asynchronous_call_tells_in_its_task(client: SimClient, pool: SimPool) -> None:
    record = client.wait(client.call("Async.VM.start", pool.vm_named("guest"), False, False))
    assert (record["status"], record["progress"], record["result"]) == ("failure", 1.0, "")
    assert record["error_info"] == ["VM_BAD_POWER_STATE", pool.vm_named("guest"), "halted", "running"]


def test_void_results_of_tasks_are_empty(client: SimClient, pool: SimPool) -> None:
    assert client.run("VM.hard_shutdown", pool.vm_named("guest")) == ""


def test_asynchronous_calls_check_count_and_session_at_once(client: SimClient) -> None:
    assert failure(client, "Async.VM.snapshot", "OpaqueRef:vm")[0] == "MESSAGE_PARAMETER_COUNT_MISMATCH"
    assert failure(client, "Async.VM.destroy", "bad", "x", session=False) == ("SESSION_INVALID", ["bad"])


@pytest.mark.parametrize("method", ["VM.get_record", "VM.set_name_label", "VM.get_all_records", "VM.add_tags"])
def test_getters_and_setters_have_no_asynchronous_form(method: str, client: SimClient) -> None:
    params = ["x"] if method == "VM.get_record" else ["x", "y"] if "_label" in method or "tags" in method else []
    assert failure(client, f"Async.{method}", *params) == ("MESSAGE_METHOD_UNKNOWN", [f"Async.{method}"])


def test_listed_methods_are_synchronous_class_dot_message(client: SimClient) -> None:
    names = client.raw_call("system.listMethods")
    assert all(name.count(".") == 1 and not name.startswith("Async") for name in names)
    assert {"VM.snapshot", "VDI.get_all_records", "event.from", "VMPP.get_all_records", "task.create"} <= set(names)
    assert names == sorted(set(names))


def test_a_removed_class_says_so(client: SimClient) -> None:
    assert failure(client, "VMPP.get_all_records") == ("MESSAGE_REMOVED", [])


def test_every_listed_class_gives_its_records(client: SimClient, pool: SimPool) -> None:
    """What Xen Orchestra does when it connects; any failure but a removed message would end that."""
    for name in client.raw_call("system.listMethods"):
        if not name.endswith(".get_all_records"):
            continue
        cls = name.partition(".")[0]
        if cls in ("VMPP",):
            continue
        for record in client.call(name).values():
            assert set(record) == set(pool.model.model[cls].fields), cls


def test_what_is_modelled_but_not_simulated_says_so(client: SimClient, pool: SimPool) -> None:
    assert failure(client, "VM.maximise_memory", pool.vm_named("guest"), 1, True) == (
        "NOT_IMPLEMENTED",
        ["VM.maximise_memory"],
    )


def test_no_junk_breaks_the_dispatcher(pool: SimPool, client: SimClient, rng: random.Random) -> None:
    """Every listed method, with arguments of every kind: an answer or a failure with a code, never anything else."""
    junk = [None, True, 7, -1.5, "", "OpaqueRef:NULL", "x", [], ["x"], {}, {"a": 1}, {"VM": "x", "SR": [1]}]
    refs = [pool.vm_named("guest"), *pool.vdis_of(pool.vm_named("guest")), pool.default_sr, pool.toolstack.pool]
    skipped = {"session.logout", "session.local_logout", "event.from"}
    for name in pool.dispatcher.list_methods():
        for _ in range(3):
            params = [rng.choice([*junk, *refs]) for _ in range(rng.randint(0, 4))]
            try:
                if name not in skipped:
                    pool.dispatcher.call(name, [client.session, *params])
                    pool.dispatcher.call(name, params)
            except Failure as failure:
                assert failure.code
    assert client.call("pool.get_all")
