"""TLS as XAPI's servers do it: STARTTLS first, the certificate from the pool as the only anchor, its name checked."""

from __future__ import annotations

import socket
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vhd.block import BLOCK_BYTES, BufferPool
from xobackup.clock import FakeClock, SystemClock
from xobackup.xapi.nbd.disk import NbdDisk
from xobackup.xapi.nbd.errors import NbdError, NbdLost, NbdProtocolError, NbdTimeout, NbdTlsError, NbdUnreachable
from xobackup.xapi.nbd.target import NbdTarget
from xobackup.xapi.nbd.wire import Wire
from xotest.certificates import make_certificate
from xotest.nbd_servers import QUICK
from xotest.scripted_nbd import Plan, ScriptedNbd

CONTENT = b"A" * BLOCK_BYTES + bytes(BLOCK_BYTES) + b"C" * 1024


def read_all(server: ScriptedNbd, *, plain_allowed: bool = False, **changes: Any) -> dict[int, int]:
    """First byte of each block."""
    targets = [replace(target, **changes) for target in server.targets()]
    options = replace(QUICK, connections=1, plain_allowed=plain_allowed)
    pool = BufferPool(3)
    found = {}
    with NbdDisk(lambda: targets, name="d", clock=SystemClock(), options=options) as disk:
        for block in disk.blocks(pool):
            found[block.index] = block.buffer.data[0]
            pool.release(block.buffer)
    return found


def test_a_disk_comes_over_tls_and_both_sides_say_goodbye(tmp_path: Path) -> None:
    with ScriptedNbd(CONTENT, certificate=make_certificate(tmp_path)) as server:
        assert read_all(server) == {0: ord("A"), 2: ord("C")}
        assert server.options[0] == 5, "STARTTLS comes first"
    assert server.goodbyes == server.tls_goodbyes == 1


def test_the_common_name_counts_where_a_certificate_has_no_other(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, name="host-1.example.org", alternative_names=False)
    with ScriptedNbd(CONTENT, certificate=certificate, subject="host-1.example.org") as server:
        assert read_all(server)
        with pytest.raises(NbdTlsError, match=r"host-2\.example\.org"):
            read_all(server, subject="host-2.example.org")


def test_a_wildcard_named_as_the_subject(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, name="*.example.org", alternative_names=False)
    with ScriptedNbd(CONTENT, certificate=certificate, subject="*.example.org") as server:
        assert read_all(server)


def test_without_a_subject_the_certificate_alone_decides(tmp_path: Path) -> None:
    with ScriptedNbd(CONTENT, certificate=make_certificate(tmp_path)) as server:
        assert read_all(server, subject="")


def test_another_certificate_is_refused_before_the_session_is_sent(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, name="other")
    with ScriptedNbd(CONTENT, certificate=make_certificate(tmp_path)) as server:
        with pytest.raises(NbdTlsError, match=r"not the one the pool named for localhost: self.signed") as caught:
            read_all(server, certificate_pem=other.cert_path.read_text())
        assert not caught.value.transient
        assert server.options == [5] and server.accepted == 1


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    with (
        ScriptedNbd(CONTENT, certificate=make_certificate(tmp_path, expired=True)) as server,
        pytest.raises(NbdTlsError, match="expired"),
    ):
        read_all(server)


@pytest.mark.parametrize("pem", ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_told(tmp_path: Path, pem: str) -> None:
    with (
        ScriptedNbd(CONTENT, certificate=make_certificate(tmp_path)) as server,
        pytest.raises(NbdTlsError, match="the certificate the pool gave cannot be used"),
    ):
        read_all(server, certificate_pem=pem)


def test_a_plain_server_is_used_only_where_that_is_allowed(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path).cert_path.read_text()
    with ScriptedNbd(CONTENT) as server:
        with pytest.raises(NbdTlsError, match="does not speak TLS: the option is not supported"):
            read_all(server, certificate_pem=pem)
        assert 1 not in server.options
        assert read_all(server, certificate_pem=pem, plain_allowed=True)


def test_a_server_that_requires_tls_is_not_spoken_to_without(tmp_path: Path) -> None:
    with (
        ScriptedNbd(CONTENT, certificate=make_certificate(tmp_path)) as server,
        pytest.raises(NbdError, match="or requires TLS"),
    ):
        read_all(server, certificate_pem="")


def test_a_lost_tls_connection_is_made_again(tmp_path: Path) -> None:
    plans = deque([Plan(drop_after=1)])
    with ScriptedNbd(CONTENT, certificate=make_certificate(tmp_path), plans=plans) as server:
        assert read_all(server) == {0: ord("A"), 2: ord("C")}
        assert server.accepted == 2


def test_a_trickle_is_too_slow() -> None:
    ours, theirs = socket.socketpair()
    clock = FakeClock()
    wire = Wire(ours, "peer", clock=clock)
    wire.set_idle(5.0)
    theirs.sendall(b"abcd")
    with pytest.raises(NbdTimeout, match="too slow: 4 bytes"):
        clock.advance(10)
        wire.receive(8, until_s=clock.monotonic_s() - 1)
    theirs.close()
    wire.close()


def test_the_end_silence_and_a_broken_connection_are_told_apart() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours, "peer", clock=SystemClock())
    wire.set_idle(0.05)
    with pytest.raises(NbdTimeout, match=r"silence for 0\.05 s"):
        wire.receive(1)
    theirs.close()
    with pytest.raises(NbdLost, match="1 bytes due"):
        wire.receive(1)
    with pytest.raises(NbdLost, match="sending"):
        wire.send(b"x")
    wire.close()
    with pytest.raises(NbdLost):
        wire.receive(1)


def test_shut_wakes_a_thread_that_waits() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours, "peer", clock=SystemClock())
    wire.set_idle(30.0)
    caught = []

    def wait() -> None:
        try:
            wire.receive(1)
        except NbdLost as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wire.shut()
    thread.join(10)
    assert len(caught) == 1
    theirs.close()
    wire.close()


@pytest.mark.parametrize("address", ["", "no such host.invalid", "127.0.0.1\0", "\udc80"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(NbdUnreachable, match="cannot connect"):
        Wire.connect(NbdTarget(address=address, port=1), connect_s=2.0, clock=SystemClock())


def test_a_handshake_answered_with_nonsense() -> None:
    with (
        ScriptedNbd(CONTENT, plans=deque([Plan(greeting=b"NBDMAGIC" + bytes(10))])) as server,
        pytest.raises(NbdProtocolError, match="IHAVEOPT"),
    ):
        read_all(server)
