"""Runs and restores in processes of their own that are killed (SIGKILL) right after their n-th call to the pool.

``python -m xotest.kill_server`` reads plans as JSON lines and forks once per plan, so that a kill costs no new
interpreter; it answers with a JSON line: the process's status, and the calls it made. Only what changes something is
counted (not reads, logins and waiting for events), and every request and first piece of a transfer: to be killed
after a read is the same as to be killed after the change before it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from remotes.local import LocalRemote
from xobackup.clock import FakeClock
from xobackup.engine.full.described import with_disks
from xobackup.engine.job import Job, PoolTarget, RemoteTarget, Selector, Settings, VmRule
from xobackup.engine.restore.plan import VmRequest
from xobackup.engine.restore.vm import plan_restore, restore_vm
from xobackup.engine.run import run_job
from xobackup.engine.world import World, real_world
from xobackup.repository.repository import Repository
from xobackup.xapi import transfer
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.handler import Handler
from xobackup.xapi.rpc import RpcClient
from xobackup.xapi.session import Session
from xobackup.xapi.tls import Ca
from xotest.lab import TIMEOUTS

UNCOUNTED = ("session.", "system.", "event.")


class Killer:
    """Counts, and kills."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._lock = threading.Lock()
        self.calls: list[str] = []

    def after(self, what: str) -> None:
        with self._lock:
            self.calls.append(what)
            if len(self.calls) == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()

    def install(self) -> None:
        """Into this process, for good."""
        call, opened, write = RpcClient.call, Handler.open, transfer.Import.write
        begun: set[int] = set()

        def counted(client: RpcClient, method: str, *args: Any, **named: Any) -> Any:
            result = call(client, method, *args, **named)
            if not method.startswith(UNCOUNTED) and ".get_" not in method:
                self.after(method)
            return result

        def open_counted(handler: Handler, **named: Any) -> Any:
            result = opened(handler, **named)
            self.after(f"{handler.what} begun")
            return result

        def write_counted(stream: transfer.Import, buffer: Any) -> int:
            count = write(stream, buffer)
            if id(stream) not in begun:
                begun.add(id(stream))
                self.after("first piece sent")
            return count

        RpcClient.call = counted  # type: ignore[method-assign]
        Handler.open = open_counted  # type: ignore[method-assign]
        transfer.Import.write = write_counted  # type: ignore[method-assign]


def _world(plan: dict[str, Any]) -> tuple[World, PoolAddress, Repository]:
    clock = FakeClock(plan["now_s"])
    repository = Repository(LocalRemote(plan["repository"]), clock=clock)
    address = PoolAddress(
        url=plan["url"],
        username=plan["username"],
        password=plan["password"],
        tls=Ca(path=Path(plan["ca"])),
        timeouts=TIMEOUTS,
    )
    return real_world(Path(plan["state"]), clock=clock), address, repository


def _run(plan: dict[str, Any]) -> str:
    world, address, repository = _world(plan)
    job = Job(
        name="nightly",
        pools=(PoolTarget(name="lab", address=address),),
        remotes=(RemoteTarget(name="nas", url="child:"),),
        selector=Selector(include=(VmRule(name="guest"),)),
        settings=Settings(mode=plan["mode"], retention=plan["retention"], lock_wait_s=0),
    )
    report = run_job(job, replace(world, open_repository=lambda _: repository))
    return " ".join([report.outcome.value, *(vm.reason for vm in report.vms)])


def _restore(plan: dict[str, Any]) -> str:
    world, address, repository = _world(plan)
    point = repository.points(plan["vm"]).points[-1]
    session = Session.connect(address, clock=world.clock)
    whole = with_disks(repository, point)
    restored = restore_vm(
        world, session, repository, plan_restore(world, session, whole, VmRequest(name="again"), remote="nas")
    )
    session.close()
    return restored.vm_uuid


VERBS: dict[str, Callable[[dict[str, Any]], str]] = {"run": _run, "restore": _restore}


def _child(plan: dict[str, Any]) -> None:
    killer = Killer(plan["at"])
    killer.install()
    status = 1
    try:
        outcome = VERBS[plan["verb"]](plan)
        Path(plan["answer"]).write_text(json.dumps({"outcome": outcome, "calls": killer.calls}))
        status = 0
    except BaseException:  # noqa: BLE001 - told to whoever looks at the test
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    for line in sys.stdin:
        plan = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(plan)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
