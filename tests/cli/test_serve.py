"""``serve`` and ``schedules``: a real process, a real pool, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xotest.site import TIMEOUT_S, Site, environment, start, wait_until

SCHEDULES = """
[schedules.often]
jobs = ["nightly"]
every = "1m"
[schedules.after]
jobs = ["nightly"]
after = "often"
retention = 1
[schedules.paris]
jobs = ["nightly"]
cron = "30 2 * * *"
timezone = "Europe/Paris"
"""


def scheduled(site: Site, text: str = SCHEDULES) -> Site:
    site.configure()
    file = Path(site.config)
    file.write_text(file.read_text() + text + '[web]\nlisten = ""\n')
    return site


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def served(copied: Site, tmp_path: Path) -> Iterator[tuple[Site, subprocess.Popen[str], Path]]:
    """A service that was away for a day: its first round has something to do."""
    scheduled(copied)
    copied.state.mkdir(exist_ok=True)
    settled = {"often": "2026-01-01T00:00:00+00:00"}
    (copied.state / "schedules.json").write_text(json.dumps({"settled": settled, "running": {}}))
    log = tmp_path / "log"
    with log.open("w") as out:
        process = start("serve", "--json", "-c", copied.config, stdout=out)
    yield copied, process, log
    if process.poll() is None:
        process.kill()
    process.communicate()


def said(log: Path, text: str) -> bool:
    return any(text in str(record["text"]) for record in lines(log))


def test_it_runs_what_is_due_reads_again_and_stops(served: tuple[Site, subprocess.Popen[str], Path]) -> None:
    site, process, log = served
    wait_until(lambda: said(log, "ended: ok") and any(r.get("schedule") == "after" for r in lines(log)))
    texts = [str(record["text"]) for record in lines(log) if record.get("schedule") == "often"]
    assert any(re.match(r"begins \((missed: .*)?14\d\d times in one\)", text) for text in texts), texts
    assert {one["run"] for one in lines(log) if one.get("vm_name") == "web"} <= {
        one["run"] for one in lines(log) if str(one["text"]).startswith("run ended: ok")
    }
    points = site.xobackup("backups", "show", "web", "--remote", "nas", "--json").of("restore-point")
    assert len(points) >= 2

    site.config.write_text(site.config.read_text() + "[schedules.broken]\njobs = []\n")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: said(log, "the old one goes on: ") and said(log, "schedules.broken.jobs"))
    scheduled(site, SCHEDULES.replace("[schedules.after]", "[schedules.later]"))
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: said(log, "configuration read again: + schedules.later; - schedules.after"))

    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 0
    assert said(log, "SIGTERM: stopping")


def test_a_second_service_is_refused(served: tuple[Site, subprocess.Popen[str], Path]) -> None:
    site, _, log = served
    wait_until(lambda: said(log, "serving "))
    assert "one is enough" in site.xobackup("serve", code=1).err


def test_systemd_hears_that_it_is_ready_and_lives(copied: Site, tmp_path: Path) -> None:
    scheduled(copied, "[schedules.yearly]\njobs = ['nightly']\ncron = '@yearly'\n")
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(TIMEOUT_S)
        heard: list[str] = []
        process = start(
            "serve",
            "--finish-wait",
            "5",
            "-c",
            copied.config,
            env=environment(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="30000000"),
        )
        while not any("WATCHDOG=1" in one for one in heard):
            heard.append(manager.recv(500).decode())
        assert heard[0].startswith("READY=1\nSTATUS=next yearly at ")
        process.send_signal(signal.SIGHUP)
        while (
            heard[-2:-1] == [] or not heard[-2].startswith("RELOADING=1\nMONOTONIC_USEC=") or heard[-1] != "READY=1"
        ):
            heard.append(manager.recv(500).decode())
        process.send_signal(signal.SIGTERM)
        while not heard[-1].startswith("STOPPING=1"):
            heard.append(manager.recv(500).decode())
        assert heard[-1].splitlines()[1:] == ["EXTEND_TIMEOUT_USEC=125000000", "STATUS=stopping, 0 running"]
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0


def test_schedules_are_listed_and_their_calendar_shown(copied: Site) -> None:
    scheduled(copied)
    listed = {one["name"]: one for one in copied.xobackup("schedules", "list", "--json").of("schedule")}
    assert listed["often"]["when"] == "every 1m" and listed["after"]["next_start"] is None
    assert (
        listed["paris"]["when"] == "cron 30 2 * * * (Europe/Paris)" and "T02:30:00+0" in listed["paris"]["next_start"]
    )
    shown = copied.xobackup("schedules", "show", "paris", "--days", "10", "--json")
    assert len(shown.of("start")) == 10
    remarks = [one["text"] for one in shown.of("remark")]
    assert len(remarks) == 2 and any("02:30 comes twice in Europe/Paris" in one for one in remarks)
    assert "10 starts in 10 days" in copied.xobackup("schedules", "show", "paris", "--days", "10").out


def test_pausing_and_resuming(copied: Site) -> None:
    scheduled(copied)
    assert (
        "paris: paused: the array moves"
        in copied.xobackup("schedules", "pause", "paris", "--reason", "the array moves").out
    )
    assert "paused: the array moves" in copied.xobackup("schedules", "list").out
    assert "paris: followed" in copied.xobackup("schedules", "resume", "paris").out
    assert "there is no schedule 'nope'" in copied.xobackup("schedules", "pause", "nope", code=2).err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jobs = ['nightly']", "expected one of cron, every and after"),
        ("jobs = ['nightly']\ncron = '@daily'\nevery = '1h'", "expected one of cron, every and after"),
        ("jobs = ['nope']\nevery = '1h'", "schedules.x.jobs: there is no job 'nope'"),
        ("jobs = ['nightly']\nafter = 'y'", "schedules.x.after: there is no schedule 'y'"),
        ("jobs = ['nightly']\nafter = 'x'", "schedules.x.after: it would wait for itself"),
        ("jobs = ['nightly']\ncron = '61 * * * *'", "bad minute"),
        ("jobs = ['nightly']\nevery = '1 fortnight'", "expected an interval such as 10m"),
        ("jobs = ['nightly']\nevery = '1h'\nexclude = ['someday']", "expected a day like sun"),
        ("jobs = ['nightly']\nevery = '1h'\ntimezone = 'Mars/Olympus'", "no such time zone"),
        ("jobs = ['nightly']\nevery = '1h'\nwindow = { from = '25:00', to = '06:00' }", "a time such as 08:00"),
        ("jobs = ['nightly']\nafter = 'x'\njitter_s = 5", "jitter_s"),
    ],
)
def test_a_bad_schedule_is_refused_by_its_key(copied: Site, text: str, told: str) -> None:
    scheduled(copied, f"[schedules.x]\n{text}\n")
    assert told in copied.xobackup("config", "check", code=2).err


def test_without_a_schedule_there_is_nothing_to_serve(copied: Site) -> None:
    copied.configure()
    assert "the configuration has no schedule" in copied.xobackup("serve", code=2).err
    assert os.environ.get("NOTIFY_SOCKET") is None
