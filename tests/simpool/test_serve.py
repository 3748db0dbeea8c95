"""A pool as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

from xobackup.simpool import SimPool
from xobackup.simpool.serve import Announcement, serve
from xotest.simclient import SimClient

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, threading, json
from pathlib import Path
from xobackup.simpool.serve import serve
stop = threading.Event()
def announce(a):
    print(json.dumps({"url": a.url, "reopened": a.reopened, "vms": a.vms}), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
serve(Path(sys.argv[1]), stop=stop, announce=announce, guest_pause_s=0.01)
"""


def test_it_announces_itself_serves_and_stops(tmp_path: Path) -> None:
    stop, ready, found = threading.Event(), threading.Event(), list[Announcement]()

    def announce(said: Announcement) -> None:
        found.append(said)
        ready.set()

    thread = threading.Thread(target=serve, args=(tmp_path,), kwargs={"stop": stop, "announce": announce})
    thread.start()
    assert ready.wait(20)
    said = found[0]
    assert said.url.startswith("https://127.0.0.1:") and len(said.fingerprint_sha256) == 64
    assert said.vms == ("web", "database", "old-test") and not said.reopened
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def start(directory: Path) -> tuple[subprocess.Popen[str], dict[str, object]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_a_killed_process_leaves_a_pool_that_opens(tmp_path: Path) -> None:
    process, said = start(tmp_path)
    assert said["reopened"] is False
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with SimPool.start(tmp_path) as pool, SimClient(pool) as client:
        assert pool.reopened
        for name in ("web", "database"):
            vm = pool.vm_named(name)
            snapshot = client.call("VM.snapshot", vm, "after the kill")
            for vdi in pool.vdis_of(snapshot):
                assert len(client.get("/export_raw_vdi", vdi=vdi).body) == client.call("VDI.get_virtual_size", vdi)


def test_a_stopped_process_can_be_started_again(tmp_path: Path) -> None:
    process, _ = start(tmp_path)
    process.communicate("")
    assert process.returncode == 0
    process, said = start(tmp_path)
    assert said["reopened"] is True
    process.communicate("")
    assert process.returncode == 0
