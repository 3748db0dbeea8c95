from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.clock import FakeClock, SystemClock
from xobackup.xapi import errors
from xobackup.xapi.session import Session, repeatable
from xotest.scripted_xapi import PASSWORD, QUICK, Drop, Fail, Raw, ScriptedXapi, Silence


def test_login_says_who_we_are(host: ScriptedXapi, session: Session) -> None:
    assert host.called("session.login_with_password") == [["root", PASSWORD, "1.0", "xobackup"]]


def test_close_logs_out(host: ScriptedXapi) -> None:
    host.connect().close()
    assert host.sessions == set()


def test_close_does_not_need_the_host(host: ScriptedXapi) -> None:
    session = host.connect()
    host.queue("session.logout", Drop())
    session.close()
    session.close()


def test_a_wrong_password_is_a_login_error_without_the_password(host: ScriptedXapi) -> None:
    with pytest.raises(errors.LoginError, match="user root") as caught:
        Session.connect(host.address(password="battery staple"), clock=SystemClock())
    assert "battery" not in str(caught.value)
    assert caught.value.hint


def test_the_session_comes_first_among_the_parameters(host: ScriptedXapi, session: Session) -> None:
    host.methods["VM.get_record"] = lambda ref: {"ref": ref}
    assert session.record("VM", "OpaqueRef:1") == {"ref": "OpaqueRef:1"}
    assert host.called("VM.get_record") == [[session.reference(), "OpaqueRef:1"]]


def test_a_lost_session_is_renewed_once(host: ScriptedXapi, session: Session) -> None:
    host.methods["VM.get_all_records"] = lambda: {"OpaqueRef:1": {"uuid": "u"}}
    before = session.reference()
    host.sessions.clear()  # the toolstack restarted
    assert session.records("VM") == {"OpaqueRef:1": {"uuid": "u"}}
    assert session.reference() != before
    assert len(host.called("session.login_with_password")) == 2


def test_a_session_that_stays_invalid_is_given_up(host: ScriptedXapi, session: Session) -> None:
    host.queue("VM.get_record", Fail("SESSION_INVALID", "OpaqueRef:s"), Fail("SESSION_INVALID", "OpaqueRef:s"))
    with pytest.raises(errors.SessionInvalid) as caught:
        session.record("VM", "OpaqueRef:1")
    assert "OpaqueRef:s" not in str(caught.value)
    assert len(host.called("VM.get_record")) == 2


def test_threads_renew_a_lost_session_once_between_them(host: ScriptedXapi, session: Session) -> None:
    host.methods["VM.get_uuid"] = lambda ref: ref
    host.sessions.clear()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: session.call("VM.get_uuid", str(number)), range(32)))
    assert found == [str(number) for number in range(32)]
    assert len(host.called("session.login_with_password")) == 2


def test_a_member_sends_us_to_the_master(host: ScriptedXapi, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with ScriptedXapi(tmp_path / "other") as member:
        member.queue("session.login_with_password", Fail("HOST_IS_SLAVE", f"127.0.0.1:{host.port}"))
        address = member.address()
        both = f"{member.certificate.sha256} {host.certificate.sha256}"
        address = type(address)(
            url=member.url, username="root", password=PASSWORD, tls=type(address.tls)(both), timeouts=QUICK
        )
        with Session.connect(address, clock=SystemClock()) as session:
            assert session.endpoint.port == host.port
    assert len(host.called("session.login_with_password")) == 1


def test_a_master_that_became_a_member_is_left(host: ScriptedXapi, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with ScriptedXapi(tmp_path / "new") as new:
        both = f"{new.certificate.sha256} {host.certificate.sha256}"
        new.methods["VM.get_uuid"] = lambda ref: "from the new master"
        address = host.address()
        address = type(address)(
            url=host.url, username="root", password=PASSWORD, tls=type(address.tls)(both), timeouts=QUICK
        )
        with Session.connect(address, clock=SystemClock()) as session:
            host.queue("VM.get_uuid", Fail("HOST_IS_SLAVE", f"127.0.0.1:{new.port}"))
            assert session.call("VM.get_uuid", "x") == "from the new master"
            assert session.endpoint.port == new.port
            # and when that one dies, the configured host knows the next
            host.methods["VM.get_uuid"] = lambda ref: "from the old master again"
            new.__exit__(None, None, None)
            assert session.call("VM.get_uuid", "x") == "from the old master again"
        new.__enter__()


def test_hosts_that_send_us_in_a_circle_are_given_up(host: ScriptedXapi) -> None:
    host.queue("session.login_with_password", *[Fail("HOST_IS_SLAVE", f"127.0.0.1:{host.port}")] * 9)
    with pytest.raises(errors.ProtocolError, match="none is the master"):
        host.connect()


def test_a_member_that_does_not_know_the_master_is_an_error(host: ScriptedXapi) -> None:
    host.queue("session.login_with_password", Fail("HOST_IS_SLAVE"))
    with pytest.raises(errors.ProtocolError):
        host.connect()


def test_a_booting_host_is_waited_for(host: ScriptedXapi) -> None:
    clock = FakeClock()
    began = clock.monotonic_s()
    host.queue("session.login_with_password", *[Fail("HOST_STILL_BOOTING")] * 3)
    with Session.connect(host.address(), clock=clock) as session:
        host.queue("VM.get_uuid", Fail("HOST_STILL_BOOTING"), "u")
        assert session.call("VM.get_uuid", "x") == "u"
    assert clock.monotonic_s() - began == pytest.approx(4 * QUICK.boot_pause_s)


def test_a_host_that_boots_for_ever_is_given_up(host: ScriptedXapi) -> None:
    host.queue("session.login_with_password", *[Fail("HOST_STILL_BOOTING")] * 99)
    with pytest.raises(errors.Busy) as caught:
        Session.connect(host.address(), clock=FakeClock())
    assert caught.value.code == "HOST_STILL_BOOTING"


@pytest.mark.parametrize("broken", [Drop(), Raw(b"")])
def test_a_reading_call_is_repeated_after_a_broken_connection(
    host: ScriptedXapi, session: Session, broken: object
) -> None:
    host.queue("VM.get_uuid", broken, broken, "u")
    assert session.call("VM.get_uuid", "x") == "u"


def test_a_reading_call_is_not_repeated_for_ever(host: ScriptedXapi, session: Session) -> None:
    host.queue("VM.get_uuid", *[Drop()] * 9)
    with pytest.raises(errors.ConnectionLost):
        session.call("VM.get_uuid", "x")
    assert len(host.called("VM.get_uuid")) == QUICK.reconnect_tries


def test_a_changing_call_is_never_repeated(host: ScriptedXapi, session: Session) -> None:
    host.queue("VM.destroy", Drop(), "")
    with pytest.raises(errors.ConnectionLost) as caught:
        session.call("VM.destroy", "x")
    assert caught.value.outcome_unknown
    assert len(host.called("VM.destroy")) == 1


def test_a_call_can_have_its_own_timeout(host: ScriptedXapi, session: Session) -> None:
    host.queue("VM.destroy", Silence())
    with pytest.raises(errors.AnswerTimeout):
        session.call("VM.destroy", "x", timeout_s=0.2)


def test_less_is_waited_for_a_host_that_fell_silent_until_it_answers_again(host: ScriptedXapi) -> None:
    host.methods["VM.get_uuid"] = lambda ref: ref
    with host.connect(timeouts=replace(QUICK, call_s=5.0, silent_s=0.4)) as session:

        def waited(timeout_s: float | None = None) -> str:
            host.queue("VM.get_uuid", Silence(1.5))
            with pytest.raises(errors.AnswerTimeout) as caught:
                session.call("VM.get_uuid", "x", timeout_s=timeout_s)
            return str(caught.value)

        assert "within 0.2 s" in waited(0.2)
        assert "within 0.4 s" in waited(), "instead of five"
        assert "within 0.6 s" in waited(5.2), "what the host itself may take comes on top"
        session.fell_silent()
        assert session.call("VM.get_uuid", "y") == "y"
        assert "within 0.2 s" in waited(0.2), "it had answered"


@pytest.mark.parametrize(
    "method", ["VM.get_record", "event.from", "VDI.set_name_label", "VM.remove_from_other_config"]
)
def test_what_does_the_same_when_done_twice(method: str) -> None:
    assert repeatable(method)


@pytest.mark.parametrize("method", ["VM.snapshot", "Async.VM.get_x", "VM.add_to_other_config", "task.create"])
def test_what_does_not(method: str) -> None:
    assert not repeatable(method)


@pytest.mark.parametrize("code", ["VDI_IN_USE", "OTHER_OPERATION_IN_PROGRESS", "TOO_MANY_PENDING_TASKS", "TOO_BUSY"])
def test_a_busy_pool_is_asked_again(host: ScriptedXapi, session: Session, code: str) -> None:
    host.queue("VM.destroy", Fail(code), Fail(code), "")
    session.call("VM.destroy", "x")
    assert len(host.called("VM.destroy")) == 3


def test_a_pool_that_stays_busy_is_given_up(host: ScriptedXapi, session: Session) -> None:
    host.methods["VM.destroy"] = lambda ref: (_ for _ in ()).throw(Fail("VDI_IN_USE", ref, "destroy"))
    with pytest.raises(errors.Busy):
        session.call("VM.destroy", "x")
    assert len(host.called("VM.destroy")) == session.timeouts.busy_tries
    with pytest.raises(errors.Busy):
        session.call("VM.destroy", "x", patient=False)
    assert len(host.called("VM.destroy")) == session.timeouts.busy_tries + 1


@pytest.mark.parametrize("code", ["OPERATION_BLOCKED", "SR_BACKEND_FAILURE_44", "INTERNAL_ERROR", "VDI_IO_ERROR"])
def test_what_does_not_pass_is_not_repeated(host: ScriptedXapi, session: Session, code: str) -> None:
    host.queue("VM.destroy", Fail(code, "", "x", ""))
    with pytest.raises(errors.XapiFailure):
        session.call("VM.destroy", "x")
    assert len(host.called("VM.destroy")) == 1


def test_one_login_for_all_threads_whose_session_expired(host: ScriptedXapi, session: Session) -> None:
    """Eight threads find their session gone at the same moment: one logs in, every call is made once."""
    barrier, done, lock = threading.Barrier(8), list[str](), threading.Lock()

    def write(ref: str, key: str, value: str) -> str:
        with lock:
            done.append(key)
        return ""

    host.methods["VM.add_to_other_config"] = write
    host.sessions.clear()

    def one(number: int) -> None:
        barrier.wait(5)
        session.call("VM.add_to_other_config", "x", f"key {number}", "v")

    before = len(host.called("session.login_with_password"))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(8)))
    assert sorted(done) == [f"key {number}" for number in range(8)]
    assert len(host.called("session.login_with_password")) == before + 1


def test_the_list_of_methods_is_asked_once(host: ScriptedXapi, session: Session) -> None:
    host.methods["VDI.get_nbd_info"] = lambda ref: []
    assert session.has_method("VDI.get_nbd_info")
    assert not session.has_method("VDI.fly")
    assert host.called("system.listMethods") == [[]]


@pytest.mark.parametrize("answer", [5, None, [], {"OpaqueRef:1": 5}, "x"])
def test_records_of_the_wrong_shape_are_a_protocol_error(
    host: ScriptedXapi, session: Session, answer: object
) -> None:
    host.methods["VM.get_all_records"] = lambda: answer
    with pytest.raises(errors.ProtocolError):
        session.records("VM")
    host.methods["VM.get_record"] = host.methods["VM.get_by_uuid"] = lambda ref: 5
    with pytest.raises(errors.ProtocolError):
        session.record("VM", "x")
    with pytest.raises(errors.ProtocolError):
        session.by_uuid("VM", "x")


@pytest.mark.parametrize("answer", [5, "", None, {}])
def test_a_login_without_a_session_is_a_protocol_error(host: ScriptedXapi, answer: object) -> None:
    host.queue("session.login_with_password", Raw(_json(answer)))
    with pytest.raises(errors.ProtocolError):
        host.connect()


def test_the_session_is_not_shown(session: Session) -> None:
    assert session.reference() not in repr(session)
    assert session.reference() not in str(session.address)


def test_calls_from_many_threads_do_not_mix(host: ScriptedXapi, session: Session) -> None:
    host.methods["VM.get_uuid"] = lambda ref: ref
    barrier = threading.Barrier(6)

    def many(worker: int) -> bool:
        barrier.wait(5)
        return all(session.call("VM.get_uuid", f"{worker}-{n}") == f"{worker}-{n}" for n in range(20))

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(many, range(6)))


def _json(answer: object) -> bytes:
    import json

    body = json.dumps({"jsonrpc": "2.0", "result": answer, "id": 1}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
