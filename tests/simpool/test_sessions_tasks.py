"""Sessions that end and tasks that report."""

from __future__ import annotations

from pathlib import Path

import pytest

from xobackup.clock import FakeClock
from xobackup.simpool import Options, SimPool
from xobackup.simpool.tasks import FINISHED_KEPT_S, TASKS_MAX
from xotest.simclient import RpcFailure, SimClient


def test_wrong_credentials_are_refused_after_the_configured_pause(tmp_path: Path) -> None:
    clock = FakeClock()
    with SimPool.start(tmp_path, clock=clock, options=Options(failed_login_delay_s=5.0)) as pool:
        with SimClient(pool) as client, pytest.raises(RpcFailure) as caught:
            before = clock.now_s()
            client.raw_call("session.login_with_password", "root", "wrong", "1.0", "test")
        assert (caught.value.code, caught.value.params[0]) == ("SESSION_AUTHENTICATION_FAILED", "root")
        assert clock.now_s() == before + 5


def test_a_session_is_gone_after_logout_and_after_a_day_of_silence(tmp_path: Path) -> None:
    clock = FakeClock()
    with SimPool.start(tmp_path, clock=clock) as pool, SimClient(pool) as client:
        clock.advance(80_000)
        client.call("pool.get_all")
        clock.advance(86_401)
        with pytest.raises(RpcFailure) as caught:
            client.call("pool.get_all")
        assert (caught.value.code, caught.value.params) == ("SESSION_INVALID", [client.session])
        with SimClient(pool) as other:
            other.call("session.logout")
            with pytest.raises(RpcFailure, match="SESSION_INVALID"):
                other.call("pool.get_all")


def test_a_restart_of_the_toolstack_ends_all_sessions(pool: SimPool) -> None:
    with SimClient(pool) as client:
        pool.restart_toolstack()
        client.close()
        with pytest.raises(RpcFailure, match="SESSION_INVALID"):
            client.call("pool.get_all")


def test_a_restart_of_the_toolstack_cancels_the_tasks_of_clients(pool: SimPool) -> None:
    with SimClient(pool) as client:
        task = client.call("task.create", "nobody works for it", "")
        pool.restart_toolstack()
    with SimClient(pool) as client:
        record = client.call("task.get_record", task)
        assert (record["status"], record["error_info"]) == ("cancelled", ["TASK_CANCELLED", task])


def test_a_toolstack_that_is_not_there_yet_says_so(tmp_path: Path) -> None:
    clock = FakeClock()
    with SimPool.start(tmp_path, clock=clock) as pool:
        with SimClient(pool) as client:
            pool.restart_toolstack(boot_s=20.0)
        for _ in range(2):
            with pytest.raises(RpcFailure) as caught:
                SimClient(pool)
            assert (caught.value.code, caught.value.params) == ("HOST_STILL_BOOTING", [])
            clock.advance(10)
        with SimClient(pool) as client:
            assert client.call("pool.get_all")


def test_a_clients_own_task(client: SimClient) -> None:
    task = client.call("task.create", "mine", "what for")
    record = client.call("task.get_record", task)
    assert (record["status"], record["finished"], record["type"]) == ("pending", "19700101T00:00:00Z", "<none/>")
    assert record["allowed_operations"] == ["cancel"]
    client.call("task.set_progress", task, 0.25)
    assert client.call("task.get_progress", task) == 0.25
    client.call("task.cancel", task)
    assert client.call("task.get_status", task) == "cancelling"
    client.call("task.set_status", task, "cancelled")
    assert client.call("task.get_record", task)["allowed_operations"] == []
    client.call("task.destroy", task)
    with pytest.raises(RpcFailure) as caught:
        client.call("task.get_record", task)
    assert (caught.value.code, caught.value.params) == ("HANDLE_INVALID", ["task", task])


def test_destroying_a_pending_task_takes_effect_when_it_ends(client: SimClient, pool: SimPool) -> None:
    task = client.call("task.create", "mine", "")
    client.call("task.destroy", task)
    assert client.call("task.get_status", task) == "pending"
    pool.toolstack.tasks.succeed(task, "")
    assert task not in client.call("task.get_all")


def test_old_and_surplus_finished_tasks_are_dropped(tmp_path: Path) -> None:
    clock = FakeClock()
    with SimPool.start(tmp_path, clock=clock) as pool:
        tasks = pool.toolstack.tasks
        old = tasks.create("old")
        tasks.succeed(old, "")
        clock.advance(FINISHED_KEPT_S + 1)
        waiting = tasks.create("waiting")
        assert not pool.model.exists("task", old) and pool.model.exists("task", waiting)
        for _ in range(TASKS_MAX + 20):
            tasks.succeed(tasks.create("many"), "")
        assert len(pool.model.refs("task")) <= TASKS_MAX
        assert pool.model.exists("task", waiting)


def test_a_task_that_nobody_ends_is_gone_after_a_day(tmp_path: Path) -> None:
    clock = FakeClock()
    with SimPool.start(tmp_path, clock=clock) as pool, SimClient(pool) as client:
        task = client.call("task.create", "forgotten", "")
        clock.advance(80_000)
        client.call("task.create", "other", "")
        assert client.call("task.get_status", task) == "pending"
        clock.advance(6_401)
        client.call("task.create", "another", "")
        with pytest.raises(RpcFailure, match="HANDLE_INVALID"):
            client.call("task.get_status", task)


def test_the_task_of_a_transfer_hangs_below_the_one_that_is_named(client: SimClient, pool: SimPool) -> None:
    above = client.call("task.create", "whole", "")
    vdi = client.call("VDI.snapshot", pool.vdis_of(pool.vm_named("guest"))[0])
    answer = client.get("/export_raw_vdi", vdi=vdi, subtask_of=above)
    assert client.call("task.get_subtask_of", answer.header("task-id")) == above
    assert client.call("task.get_subtasks", above) == [answer.header("task-id")]
