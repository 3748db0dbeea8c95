"""Planned faults: each fires where and as often as planned, and says so if it never did."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

import pytest

from xobackup.clock import FakeClock
from xobackup.simpool import Failure, Options, PoolSpec, SimPool
from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.values import date_text
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


def test_a_task_can_vanish_with_its_outcome(client: SimClient, pool: SimPool, vm: str) -> None:
    pool.faults.vanish_task("Async.VM.snapshot")
    task = client.call("Async.VM.snapshot", vm, "s")
    with pytest.raises(RpcFailure) as caught:
        client.wait(task)
    assert (caught.value.code, caught.value.params) == ("HANDLE_INVALID", ["task", task])
    assert len(client.call("VM.get_snapshots", vm)) == 1 and pool.faults.unfired() == []


def test_a_transfer_can_be_slow_to_begin_and_slow_to_go_on(client: SimClient, pool: SimPool, vm: str) -> None:
    snapshot = client.call("VDI.snapshot", pool.vdis_of(vm)[0])
    pool.faults.slow("http", first_byte_s=0.2, bytes_per_s=40_000_000.0)
    started = time.monotonic()
    answer = client.get("/export_raw_vdi", vdi=snapshot)
    assert answer.body == pool.disk_bytes(snapshot)
    assert time.monotonic() - started >= 0.2 + 0.1


def test_every_call_can_take_a_while(client: SimClient, pool: SimPool) -> None:
    pool.faults.slow("http", latency_s=0.1)
    started = time.monotonic()
    client.call("pool.get_all")
    client.call("pool.get_all")
    assert time.monotonic() - started >= 0.2
    pool.faults.clear()


def test_hosts_can_have_the_wrong_time(tmp_path: Path, spec: PoolSpec) -> None:
    clock = FakeClock()
    with (
        SimPool.start(tmp_path, spec=spec, options=Options(clock_skew_s=-7200.0), clock=clock) as pool,
        SimClient(pool) as client,
    ):
        now = client.call("host.get_servertime", pool.toolstack.master)
        assert now == date_text(clock.now_s() - 7200)
        snapshot = client.call("VM.snapshot", pool.vm_named("guest"), "s")
        assert client.call("VM.get_snapshot_time", snapshot) == now


def test_random_faults_follow_their_seed(pool: SimPool, vm: str) -> None:
    def outcomes(seed: int) -> list[str]:
        pool.faults.randomly(seed, rate=0.3)
        found = []
        for _ in range(40):
            session = pool.toolstack.sessions.login(pool.username, pool.password, "test")
            try:
                pool.dispatcher.call("VM.get_uuid", [session, vm])
                found.append("ok")
            except (Failure, ConnectionLost) as error:
                found.append(str(error))
        pool.faults.clear()
        return [text.partition(" ")[0] for text in found]

    first = outcomes(1)
    assert first == outcomes(1) != outcomes(2)
    assert {"ok", "TOO_MANY_PENDING_TASKS", "SESSION_INVALID"} <= set(first)
