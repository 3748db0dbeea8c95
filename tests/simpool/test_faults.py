"""Planned faults: each fires where and as often as planned, and says so if it never did."""

from __future__ import annotations

import http.client

import pytest

from xobackup.simpool import SimPool
from xotest.simclient import RpcFailure, SimClient


@pytest.fixture
def vm(pool: SimPool) -> str:
    return pool.vm_named("guest")


def test_a_failure_fires_as_often_as_planned(client: SimClient, pool: SimPool, vm: str) -> None:
    pool.faults.fail_call("VM.get_*", "VDI_IN_USE", ["x", "destroy"], times=2, skip=1)
    assert client.call("VM.get_uuid", vm)
    for _ in range(2):
        with pytest.raises(RpcFailure) as caught:
            client.call("VM.get_uuid", vm)
        assert (caught.value.code, caught.value.params) == ("VDI_IN_USE", ["x", "destroy"])
    assert client.call("VM.get_uuid", vm)
    assert pool.faults.unfired() == []


def test_a_failed_call_has_done_nothing_and_fails_the_task_of_an_asynchronous_one(
    client: SimClient, pool: SimPool, vm: str
) -> None:
    params = ["", "There is insufficient space", ""]
    pool.faults.fail_call("VM.snapshot", "SR_BACKEND_FAILURE_44", params)
    record = client.wait(client.call("Async.VM.snapshot", vm, "s"))
    assert record["error_info"] == ["SR_BACKEND_FAILURE_44", *params]
    assert client.call("VM.get_snapshots", vm) == []


def test_a_lost_answer_leaves_the_call_done(client: SimClient, pool: SimPool, vm: str) -> None:
    pool.faults.lose_answer("VM.set_name_label")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        client.call("VM.set_name_label", vm, "done")
    client.close()
    assert client.call("VM.get_name_label", vm) == "done"
    assert pool.journal.entries("VM.set_name_label")[0].outcome == "answer lost"


def test_sessions_expire_in_the_middle(client: SimClient, pool: SimPool, vm: str) -> None:
    pool.faults.expire_session_at("VM.get_uuid", skip=1)
    assert client.call("VM.get_uuid", vm)
    with pytest.raises(RpcFailure) as caught:
        client.call("VM.get_uuid", vm)
    assert caught.value.code == "SESSION_INVALID"


def test_what_never_fired_is_reported(pool: SimPool) -> None:
    pool.faults.fail_call("VM.fly", "INTERNAL_ERROR", ["x"])
    pool.faults.delay_call("VM.swim", 1.0)
    assert [text.partition(" (")[0] for text in pool.faults.unfired()] == ["fail VM.fly", "delay VM.swim"]
    pool.faults.clear()
    assert pool.faults.unfired() == []


def test_the_journal_proves_what_was_asked_and_how_it_ended(client: SimClient, pool: SimPool, vm: str) -> None:
    pool.journal.clear()
    client.call("VM.add_tags", vm, "t")
    with pytest.raises(RpcFailure):
        client.call("VM.start", vm, False, False)
    client.get("/export_raw_vdi", vdi="nothing")
    assert [(entry.method, entry.outcome) for entry in pool.journal.entries()] == [
        ("VM.add_tags", "ok"),
        ("VM.start", "VM_BAD_POWER_STATE"),
        ("GET /export_raw_vdi", "refused"),
    ]
    assert pool.journal.entries("VM.add_tags")[0].args[1:] == (vm, "t")
    assert pool.journal.count("VM.*") == 2


def test_the_journal_keeps_no_passwords(client: SimClient, pool: SimPool) -> None:
    with SimClient(pool):
        pass
    for entry in pool.journal.entries("session.*"):
        assert pool.password not in entry.args
