"""A backup run in a process of its own that sends itself a signal at a planned change of the repository.

``python -m xotest.run_child PLAN.json``: the plan says where pool, repository and state are, which signal, and at
which change (number of the matching operation by ``operation`` and ``name``, shell patterns). Prints the report.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from remotes.faults import CHANGES, Faults
from remotes.faulty import FaultyRemote
from remotes.local import LocalRemote
from xobackup.clock import SystemClock
from xobackup.engine.cancel import CancelToken, on_signals
from xobackup.engine.hooks.hook import Hook, When
from xobackup.engine.job import Consistent, Job, PoolTarget, RemoteTarget, Selector, Settings, VmRule
from xobackup.engine.run import run_job
from xobackup.engine.world import real_world
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.repository import Repository
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.tls import Ca


class SignallingFaults(Faults):
    """Sends the signal before the matching change of that number; changes nothing else."""

    def __init__(self, plan: dict[str, object]) -> None:
        super().__init__()
        self._plan = plan
        self._matched = 0
        self._guard = threading.Lock()

    def perform(self, kind, remote, name, action, torn=None):  # type: ignore[no-untyped-def,override]
        plan = self._plan
        if kind in CHANGES and fnmatchcase(kind, str(plan["operation"])) and fnmatchcase(name, str(plan["name"])):
            with self._guard:
                self._matched += 1
                if self._matched == plan["at"]:
                    os.kill(os.getpid(), int(str(plan["signal"])))
        return super().perform(kind, remote, name, action, torn)


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    clock = SystemClock()
    remote = FaultyRemote(LocalRemote(plan["repository"]), SignallingFaults(plan))
    cancel = CancelToken()
    world = replace(
        real_world(Path(plan["state"]), clock=clock, cancel=cancel),
        open_repository=lambda _: Repository(
            remote, clock=clock, options=RepositoryOptions(vhd_directory=plan["directories"])
        ),
    )
    address = PoolAddress(
        url=plan["url"], username=plan["username"], password=plan["password"], tls=Ca(path=Path(plan["ca"]))
    )
    job = Job(
        name="nightly",
        pools=(PoolTarget(name="lab", address=address),),
        remotes=(RemoteTarget(name="nas", url="child:"),),
        selector=Selector(include=(VmRule(name=plan.get("vms", "guest")),)),
        consistent=Consistent() if plan.get("consistent") else None,
        hooks=tuple(Hook(on=When(on), command=tuple(command)) for on, command in plan.get("hooks", ())),
        settings=Settings(
            mode=plan.get("mode", "delta"),
            offline_backup=plan.get("offline_backup", False),
            retention=plan["retention"],
            pool_metadata_retention=plan["retention"],
            lock_wait_s=0,
        ),
    )
    with on_signals(cancel):
        report = run_job(job, world)
    print(json.dumps(report.as_data()))


if __name__ == "__main__":
    main()
