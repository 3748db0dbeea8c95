from __future__ import annotations

import threading
from typing import Any

import pytest

from xobackup.clock import FakeClock
from xobackup.xapi import errors, task
from xobackup.xapi.session import Session
from xobackup.xapi.timeouts import Timeouts
from xotest.scripted_xapi import QUICK, Fail, ScriptedXapi

RESULT = "<value>OpaqueRef:snap</value>"


def soon(action: Any, *args: Any, after_s: float = 0.1, **kwargs: Any) -> None:
    timer = threading.Timer(after_s, action, args, kwargs)
    timer.daemon = True
    timer.start()


def started(host: ScriptedXapi, **fields: Any) -> None:
    """The next asynchronous call's task is already like this."""
    host.queue("Async.VM.snapshot", host.new_task(**fields))


def test_a_tasks_result_is_returned_and_the_task_removed(host: ScriptedXapi, session: Session) -> None:
    started(host, status="success", result=RESULT, progress=1.0)
    assert session.call_async("VM.snapshot", "OpaqueRef:vm", "name") == "OpaqueRef:snap"
    assert host.tasks == {}
    assert host.called("Async.VM.snapshot")[0][1:] == ["OpaqueRef:vm", "name"]


def test_a_void_result_is_none(host: ScriptedXapi, session: Session) -> None:
    started(host, status="success", result="")
    assert session.call_async("VM.snapshot") is None


def test_a_task_is_watched_by_events(host: ScriptedXapi, session: Session) -> None:
    ref = host.new_task()
    host.queue("Async.VM.snapshot", ref)
    soon(host.set_task, ref, progress=0.5, after_s=0.05)
    soon(host.end_task, ref, result=RESULT, after_s=0.2)
    seen: list[float] = []
    assert session.call_async("VM.snapshot", progress=seen.append) == "OpaqueRef:snap"
    assert seen[-1] == 1.0
    assert 0.5 in seen
    assert host.called("task.get_record") == []


@pytest.mark.parametrize("code", ["MESSAGE_METHOD_UNKNOWN", "EVENT_SUBSCRIPTION_PARSE_FAILURE"])
def test_without_events_the_task_is_polled(host: ScriptedXapi, session: Session, code: str) -> None:
    ref = host.new_task()
    host.queue("Async.VM.snapshot", ref)
    host.queue("event.from", Fail(code))
    soon(host.end_task, ref, result=RESULT)
    assert session.call_async("VM.snapshot") == "OpaqueRef:snap"
    assert len(host.called("event.from")) == 1
    assert host.called("task.get_record")


def test_a_host_that_answers_events_at_once_with_nothing_is_not_asked_in_a_loop(
    host: ScriptedXapi, session: Session
) -> None:
    ref = host.new_task()
    host.queue("Async.VM.snapshot", ref)
    empty = {"events": [], "token": "0", "valid_ref_counts": {}}
    host.queue("event.from", *[empty] * 500)
    soon(host.end_task, ref, result=RESULT, after_s=0.2)
    assert session.call_async("VM.snapshot") == "OpaqueRef:snap"
    assert len(host.called("event.from")) < 20


def test_a_failed_task_raises_its_failure(host: ScriptedXapi, session: Session) -> None:
    started(host, status="failure", error_info=["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""])
    with pytest.raises(errors.OutOfSpace, match=r"VM\.snapshot: .*insufficient space"):
        session.call_async("VM.snapshot")
    assert host.tasks == {}


def test_a_task_cancelled_by_somebody_else_is_cancelled(host: ScriptedXapi, session: Session) -> None:
    started(host, status="cancelled", error_info=["TASK_CANCELLED", "x"])
    with pytest.raises(errors.Cancelled):
        session.call_async("VM.snapshot")


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_task_that_vanishes_has_an_unknown_outcome(host: ScriptedXapi, session: Session, when: str) -> None:
    ref = host.new_task()
    host.queue("Async.VM.snapshot", ref)
    if when == "before":
        host.drop_task(ref)
    else:
        soon(host.drop_task, ref)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        session.call_async("VM.snapshot", timeout_s=3)
    assert caught.value.outcome_unknown
    assert caught.value.task == ref


def test_a_deletion_seen_as_an_event_is_an_unknown_outcome(host: ScriptedXapi, session: Session) -> None:
    ref = host.new_task()
    host.queue("Async.VM.snapshot", ref)
    gone = {"class": "task", "operation": "del", "ref": ref}
    host.queue("event.from", {"events": [gone], "token": "9", "valid_ref_counts": {}})
    with pytest.raises(errors.OutcomeUnknown):
        session.call_async("VM.snapshot")


def test_a_task_over_its_time_is_cancelled(host: ScriptedXapi, session: Session) -> None:
    with pytest.raises(errors.TaskTimeout, match=r"0\.2 s") as caught:
        session.call_async("VM.snapshot", timeout_s=0.2)
    assert not caught.value.outcome_unknown
    assert len(host.called("task.cancel")) == 1
    assert host.tasks == {}


def test_a_task_that_ignores_the_request_to_end_has_an_unknown_outcome(host: ScriptedXapi, session: Session) -> None:
    host.methods["task.cancel"] = lambda ref: ""
    with pytest.raises(errors.TaskTimeout) as caught:
        session.call_async("VM.snapshot", timeout_s=0.1)
    assert caught.value.outcome_unknown


def test_a_task_that_succeeds_while_it_is_cancelled_gives_its_result(host: ScriptedXapi, session: Session) -> None:
    host.methods["task.cancel"] = lambda ref: host.end_task(ref, result=RESULT) or ""
    assert session.call_async("VM.snapshot", timeout_s=0.1) == "OpaqueRef:snap"


def test_a_stop_cancels_the_task(host: ScriptedXapi, session: Session) -> None:
    stop = threading.Event()
    soon(stop.set)
    with pytest.raises(errors.Cancelled):
        session.call_async("VM.snapshot", should_stop=stop.is_set)
    assert len(host.called("task.cancel")) == 1


def test_ctrl_c_cancels_the_task(host: ScriptedXapi, session: Session) -> None:
    def interrupt(_progress: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.call_async("VM.snapshot", progress=interrupt)
    assert len(host.called("task.cancel")) == 1
    assert len(host.called("task.destroy")) == 1


def test_too_many_pending_tasks_are_waited_out(host: ScriptedXapi) -> None:
    clock = FakeClock()
    with Session.connect(host.address(), clock=clock) as session:
        host.queue("Async.VM.snapshot", *[Fail("TOO_MANY_PENDING_TASKS")] * (QUICK.busy_tries - 1))
        began = clock.monotonic_s()
        started(host, status="success", result=RESULT)
        assert session.call_async("VM.snapshot") == "OpaqueRef:snap"
        assert clock.monotonic_s() - began == pytest.approx(QUICK.busy_pause_s * (QUICK.busy_tries - 1))
        host.queue("Async.VM.snapshot", *[Fail("TOO_MANY_PENDING_TASKS")] * QUICK.busy_tries)
        with pytest.raises(errors.Busy):
            session.call_async("VM.snapshot")


def test_other_failures_to_start_are_raised_at_once(host: ScriptedXapi, session: Session) -> None:
    host.queue("Async.VM.snapshot", Fail("MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.snapshot", "2", "3"))
    with pytest.raises(errors.NotSupported):
        session.call_async("VM.snapshot", "a", "b", [])


@pytest.mark.parametrize("answer", ["", 5, [], {}, "nonsense"])
def test_a_start_without_a_task_is_a_protocol_error(host: ScriptedXapi, session: Session, answer: object) -> None:
    host.methods["Async.VM.snapshot"] = lambda: answer
    with pytest.raises(errors.ProtocolError):
        session.call_async("VM.snapshot")


def test_a_structured_result_is_for_run(host: ScriptedXapi, session: Session) -> None:
    array = "<value><array><data><value>OpaqueRef:1</value></data></array></value>"
    started(host, status="success", result=array)
    started(host, status="success", result=array)
    with pytest.raises(errors.ProtocolError, match="one value"):
        session.call_async("VM.snapshot")
    assert task.run(session, "VM.snapshot", []) == ["OpaqueRef:1"]


def test_a_session_lost_while_waiting_is_renewed(host: ScriptedXapi, session: Session) -> None:
    ref = host.new_task()
    host.queue("Async.VM.snapshot", ref)

    def restart() -> None:
        host.sessions.clear()
        host.set_task(ref, progress=0.1)

    soon(restart)
    soon(host.end_task, ref, result=RESULT, after_s=0.3)
    assert session.call_async("VM.snapshot") == "OpaqueRef:snap"
    assert len(host.called("session.login_with_password")) == 2


def test_the_defaults_are_generous() -> None:
    assert Timeouts().task_s >= 2 * 3600
