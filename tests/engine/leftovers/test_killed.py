"""Killed after call after call that a run or a restore makes to its pool: the next start leaves the pool as it was.

The kill is real (SIGKILL), of a process of its own. The pool lives on: what each killed process left there is what
the next start meets. A few calls spread over all of them are taken; ``XOTEST_SWEEP=full`` takes every one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xobackup.engine import events
from xobackup.engine.full.described import with_disks
from xobackup.engine.restore.plan import VmRequest
from xobackup.engine.restore.vdi import restore_to_vdi
from xobackup.engine.restore.vm import plan_restore, restore_vm
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xobackup.xapi.session import Session
from xotest.killed import let_the_lock_go_stale
from xotest.lab import MIB, Lab, only
from xotest.pool_state import state_of
from xotest.site import wait_until

ONE_DISK = PoolSpec(
    vms=(VmSpec(name="guest", disks=(DiskSpec(name="system", size_bytes=4 * MIB, filled_bytes=2 * MIB),)),)
)
SAMPLES = 6
FULL = os.environ.get("XOTEST_SWEEP") == "full"


class Killing:
    """The server, and what to tell it of a lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "xotest.kill_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, verb: str, at: int) -> dict[str, Any] | None:
        """The answer of a process that ended by itself; ``None`` when it was killed."""
        lab, server = self._lab, self._server
        lab.clock.advance(3600)
        lab.pool.gc()
        answer = lab.directory / "answer.json"
        answer.unlink(missing_ok=True)
        plan = {
            "verb": verb,
            "at": at,
            "url": lab.pool.url,
            "username": lab.pool.username,
            "password": lab.pool.password,
            "ca": str(lab.pool.ca_pem_path),
            "repository": str(lab.directory / "repository"),
            "state": str(lab.directory / "state"),
            "mode": lab.settings.mode,
            "retention": lab.settings.retention,
            "now_s": lab.clock.now_s(),
            "vm": lab.vm_uuid,
            "answer": str(answer),
        }
        known = {point.id for point in lab.points()}
        images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(plan) + "\n")
        server.stdin.flush()
        status = json.loads(server.stdout.readline())["status"]
        for point in lab.points():
            if point.id not in known:
                lab.expected["nas", point.id] = images
        assert status in (0, -signal.SIGKILL), f"{verb} {at}: {status}"
        return json.loads(answer.read_text()) if status == 0 else None

    def close(self) -> None:
        for pipe in (self._server.stdin, self._server.stdout):
            assert pipe is not None
            pipe.close()
        self._server.wait()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=ONE_DISK) as started:
        yield started


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, pool: SimPool) -> Lab:
    made = Lab(tmp_path, pool)
    made.on_disk()
    made.with_settings(retention=2, mode=getattr(request, "param", "delta"))
    made.run()
    return made


@pytest.fixture
def killed(lab: Lab) -> Iterator[Killing]:
    server = Killing(lab)
    yield server
    server.close()


def calls(killed: Killing, verb: str) -> list[str]:
    """What it does when nobody kills it."""
    answer = killed(verb, 0)
    assert answer is not None
    found: list[str] = answer["calls"]
    assert len(found) > SAMPLES
    return found


def chosen(count: int) -> list[int]:
    """Numbers of calls: all of them, or some with the first and the last."""
    if FULL:
        return list(range(1, count + 1))
    return sorted({1 + round(step * (count - 1) / (SAMPLES - 1)) for step in range(SAMPLES)})


@pytest.mark.slow
@pytest.mark.parametrize("lab", ["delta", "full"], indirect=True)
def test_a_run_killed_after_any_call_leaves_nothing_that_the_next_does_not_remove(lab: Lab, killed: Killing) -> None:
    lab.write(0, 0, b"as ever")
    made = calls(killed, "run")
    lab.run()
    before = state_of(lab.pool)
    cleaned = 0
    for at in chosen(len(made)):
        told = f"killed after call {at} of {len(made)}, {made[at - 1]}"
        lab.write(0, at * 512, b"before it is killed")
        assert killed("run", at) is None, told
        let_the_lock_go_stale(lab)
        lab.check(finished=False)
        lab.write(0, at * 512, b"after it was killed")
        seen = len(lab.journal.of(events.LeftoverCleaned))
        vm = only(lab.run())
        cleaned += len(lab.journal.of(events.LeftoverCleaned)) - seen
        assert lab.settings.mode == "full" or (vm.fulls, vm.deltas) == (0, 1), told
        lab.check()
        lab.assert_tidy()
        assert state_of(lab.pool) == before, told
    assert cleaned >= SAMPLES - 2 and not lab.journal.of(events.Warned)


@pytest.mark.slow
@pytest.mark.parametrize("lab", ["delta", "full"], indirect=True)
def test_a_restore_killed_after_any_call_leaves_nothing_that_any_start_does_not_remove(
    lab: Lab, killed: Killing
) -> None:
    made = calls(killed, "restore")
    remove_restored_vm(lab)
    lab.run()
    before = state_of(lab.pool)
    finished = 0
    for turn, at in enumerate(chosen(len(made))):
        told = f"killed after call {at} of {len(made)}, {made[at - 1]}"
        assert killed("restore", at) is None, told
        STARTS[turn % len(STARTS)](lab)
        finished += remove_restored_vm(lab)
        lab.assert_tidy()
        assert state_of(lab.pool) == before, told
    assert finished < len(chosen(len(made))) / 2
    lab.check()


def start_by_run(lab: Lab) -> None:
    lab.run()


def start_by_restore(lab: Lab) -> None:
    session = Session.connect(lab.address, clock=lab.clock)
    point = with_disks(lab.repository(), lab.points()[-1])
    plan = plan_restore(lab.world(), session, point, VmRequest(name="another"), remote="nas")
    uuid = restore_vm(lab.world(), session, lab.repository(), plan).vm_uuid
    session.close()
    destroy(lab, lab.pool.call("VM.get_by_uuid", uuid))


def start_by_restore_of_a_disk(lab: Lab) -> None:
    session = Session.connect(lab.address, clock=lab.clock)
    point = with_disks(lab.repository(), lab.points()[-1])
    record = {"name_label": "x", "SR": lab.pool.default_sr, "virtual_size": 4 * MIB, "type": "user"}
    vdi = lab.pool.call("VDI.create", {**record, "sharable": False, "read_only": False, "other_config": {}})
    uuid = lab.pool.model.get("VDI", vdi)["uuid"]
    restore_to_vdi(lab.world(), session, lab.repository(), point, point.disks[0], vdi_uuid=uuid)
    session.close()
    let_go(lab)
    lab.pool.call("VDI.destroy", vdi)


STARTS = (start_by_run, start_by_restore, start_by_restore_of_a_disk)


def remove_restored_vm(lab: Lab) -> int:
    """A restore that was killed after its last step, or not at all, has made a VM that is whole, and unmarked."""
    found = [ref for ref, _ in lab.pool.model.where("VM", name_label="again")]
    for ref in found:
        record = lab.pool.model.get("VM", ref)
        assert not record["blocked_operations"] and not any("xobackup" in key for key in record["other_config"])
        disk = lab.pool.vdis_of(ref)[0]
        assert not any("xobackup" in key for key in lab.pool.model.get("VDI", disk)["other_config"])
        assert lab.pool.disk_sha256(disk) in {sha for images in lab.expected.values() for sha in images.values()}
        destroy(lab, ref)
    return len(found)


def let_go(lab: Lab) -> None:
    """Control domains detach a disk a moment after a transfer."""
    wait_until(lambda: not state_of(lab.pool)["on control domains"])


def destroy(lab: Lab, vm: str) -> None:
    disks = lab.pool.vdis_of(vm)
    let_go(lab)
    lab.pool.call("VM.destroy", vm)
    for vdi in disks:
        lab.pool.call("VDI.destroy", vdi)
