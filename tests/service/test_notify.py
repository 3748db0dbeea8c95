"""What systemd hears."""

import os
import socket
from pathlib import Path

from xobackup.service.notify import notify, watchdog_s


def test_a_datagram_to_the_socket_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        assert notify("READY=1", {"NOTIFY_SOCKET": str(path)})
        assert manager.recv(100) == b"READY=1"
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(path)})
    assert not notify("READY=1", {}) and not notify("READY=1", {"NOTIFY_SOCKET": "vsock:2:1"})


def test_the_watchdog_is_fed_twice_as_often_as_it_asks() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}) == 15
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15
    for environment in (
        {},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"},
    ):
        assert watchdog_s(environment) is None
