"""What systemd hears, and the unit that it is given."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from xobackup.service.notify import notify, watchdog_s
from xobackup.service.service import ROUND_S


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


def test_the_shipped_unit_is_one_and_is_hardened(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "contrib" / "xobackup.service").read_text()
    said = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))
    assert said["Type"] == "notify" and int(said["WatchdogSec"]) > 4 * ROUND_S
    hardened = ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectKernelModules")
    assert all(said[one] == "yes" for one in hardened) and said["ProtectSystem"] == "strict"
    assert said["CapabilityBoundingSet"] == "" and "#LoadCredential=" in text
    if shutil.which("systemd-analyze") is None:
        return  # what it would say of words it does not know; the rest was looked at
    text = re.sub(r"(?m)^Documentation=.*\n", "", text)
    text = re.sub(r"(?m)^User=.*", "User=daemon", re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", text))
    (tmp_path / "xobackup.service").write_text(text)
    command = ["systemd-analyze", "verify", str(tmp_path / "xobackup.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr and done.returncode == 0
