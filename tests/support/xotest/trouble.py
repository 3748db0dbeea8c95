"""What goes wrong in a company of :mod:`xotest.company`, by seed: machines and lines that die, stop, and come back.

A seed says which kind of trouble there is and, by its random numbers, to whom and how soon after the first VM of the
seed's job was taken. A machine has one trouble at a time; the next one waits for it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xobackup.engine.leftovers.claim import claims_of
from xobackup.simpool.faults import FOREVER
from xotest.company import Company, site_of

SHORT_S = 6.0
"""Less than the lease of workers and control nodes."""
LONG_S = 40.0
"""More than it."""
KINDS = (
    "kill-worker",
    "cut-database-short",
    "stop-worker-long",
    "restart-database",
    "kill-control",
    "cut-pool",
    "stop-worker-short",
    "cut-database-long",
    "stop-control-long",
    "cut-control-short",
)
"""In turns at one site and the other: each has one that takes long."""


def kind_of(seed: int) -> str:
    """So that any ten seeds in a row have every kind."""
    return KINDS[seed % len(KINDS)]


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Machines by what they are, and the commands that their processes were started by."""

    workers: Sequence[str]
    control: Sequence[str]
    commands: dict[str, Sequence[str]]
    processes: dict[str, subprocess.Popen[str]]


@dataclass(kw_only=True)
class Troubles:
    """Watches the pools, and acts. ``told``: what was done to whom, for whoever reads of a failure."""

    sites: Company
    crew: Crew
    told: list[str] = field(default_factory=list)
    seen: list[dict[str, set[str]]] = field(default_factory=list)
    """At every snapshot, which runs said on the pool that they work on which VM."""
    _begun: set[int] = field(default_factory=set)
    _threads: list[threading.Thread] = field(default_factory=list)
    _errors: list[BaseException] = field(default_factory=list)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def watch(self) -> None:
        for pool in self.sites.pools.values():
            pool.faults.act_at("*VM.snapshot", lambda pool=pool: self._look(pool), times=FOREVER)
        names = [*self.sites.machines, "database"]
        self._locks = {name: threading.Lock() for name in names}

    def end(self) -> None:
        """All of it is over, and the world is well again. Raises what went wrong with the troubles themselves."""
        for thread in self._threads:
            thread.join(4 * LONG_S)
            assert not thread.is_alive(), "a trouble did not end"
        for pool in self.sites.pools.values():
            pool.faults.clear()
        if self._errors:
            raise self._errors[0]

    def _look(self, pool: Any) -> None:
        vms = [one for one in pool.model.records("VM").values() if not one["is_a_snapshot"]]
        claims = {one["name_label"]: set(claims_of(one["other_config"])) for one in vms}
        with self._guard:
            self.seen.append({name: runs for name, runs in claims.items() if runs})
            fresh = {int(name[1:].partition("-")[0]) for name, runs in claims.items() if runs} - self._begun
            self._begun |= fresh
        for seed in sorted(fresh):
            thread = threading.Thread(target=self._act, args=(seed,), name=f"trouble {seed}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _act(self, seed: int) -> None:
        rng = random.Random(seed)
        wait(rng.random())
        kind = kind_of(seed)
        at_work = [one for one in self.crew.workers if self.sites.machines[one].site == site_of(seed)]
        victim = rng.choice(at_work if "control" not in kind else list(self.crew.control))
        victim = "database" if kind == "restart-database" else victim
        try:
            with self._locks[victim]:
                self.told.append(f"seed {seed}: {kind}: {victim}")
                self._kinds[kind](victim)
                wait(1.0)
        except BaseException as error:  # noqa: BLE001 - told at the end
            self._errors.append(error)

    @property
    def _kinds(self) -> dict[str, Callable[[str], None]]:
        return {
            "kill-worker": self._kill,
            "kill-control": self._kill,
            "stop-worker-short": lambda name: self._stop(name, SHORT_S),
            "stop-worker-long": lambda name: self._stop(name, LONG_S),
            "stop-control-long": lambda name: self._stop(name, LONG_S),
            "cut-database-short": lambda name: self._cut(name, "wan", SHORT_S),
            "cut-database-long": lambda name: self._cut(name, "wan", LONG_S),
            "cut-control-short": lambda name: self._cut(name, "wan", SHORT_S),
            "cut-pool": lambda name: self._cut(name, "lan", SHORT_S),
            "restart-database": lambda _name: self._restart_database(),
        }

    def _kill(self, name: str) -> None:
        process = self.crew.processes[name]
        process.kill()
        process.wait()
        wait(1.0)
        self.crew.processes[name] = self.sites.start(name, *self.crew.commands[name])

    def _stop(self, name: str, seconds: float) -> None:
        process = self.crew.processes[name]
        os.kill(process.pid, signal.SIGSTOP)
        wait(seconds)
        os.kill(process.pid, signal.SIGCONT)

    def _cut(self, name: str, line: str, seconds: float) -> None:
        machine = self.sites.machines[name]
        machine.cut(line)
        wait(seconds)
        machine.mend(line)

    def _restart_database(self) -> None:
        self.sites.server.stop()
        wait(1.0)
        with self.sites.hub.entered():
            self.sites.server.start()


def wait(seconds: float) -> None:
    """Real time: other processes live in it."""
    threading.Event().wait(seconds)
