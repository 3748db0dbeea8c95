"""Two sites that do not reach each other's storage, with a worker each, and a control node that reaches neither.

Every machine has a configuration file of its own; what it does not reach stands there with an address where nothing
is. Lyon's repository may be encrypted: only Lyon has the key.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xotest.site import TIMEOUT_S, Result, start, wait_until, xobackup

JOB = """
[jobs.copies]
mode = "mirror"
source = "nas-lyon"
remotes = ["nas-paris"]
"""
CONTROL, PARIS, LYON = "control", "paris", "lyon"


@dataclass(slots=True, kw_only=True)
class TwoSites:
    """``lyon``, ``paris``: the directories of their repositories."""

    directory: Path
    lyon: Path
    paris: Path
    key: str = ""
    """Of Lyon's repository."""
    job: str = JOB
    engine: str = ""
    """More lines of ``[engine]``."""
    relays: dict[str, str] = field(default_factory=dict)
    """More lines of ``[engine.relay]``, by site."""
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def configure(self) -> None:
        for machine in (CONTROL, PARIS, LYON):
            self.config(machine).write_text(self._text(machine))

    def config(self, machine: str) -> Path:
        return self.directory / f"{machine}.toml"

    def state(self, machine: str = CONTROL) -> Path:
        return self.directory / f"{machine}-state"

    def _text(self, machine: str) -> str:
        nowhere = self.directory / "not" / "reached"
        lines = [
            f'state_directory = "{self.state(machine)}"',
            "[engine]",
            f'database = "sqlite:///{self.directory}/engine.db"',
            'wait = "20s"',
            f'site = "{machine}"',
            self.engine,
        ]
        if machine != CONTROL:
            lines += ["[engine.relay]", 'listen = "127.0.0.1:0"', self.relays.get(machine, 'address = "127.0.0.1:0"')]
        for site, place in ((LYON, self.lyon), (PARIS, self.paris)):
            lines += [f"[remotes.nas-{site}]", f'sites = ["{site}"]']
            lines += [f'url = "file://{place if machine == site else nowhere / site}"']
            if site == LYON and machine == LYON and self.key:
                lines += [f'encryption = {{ key = "{self.key}", mode = "xo" }}']
        return "\n".join([*lines, self.job]) + "\n"

    def xobackup(self, *arguments: str | Path, at: str = CONTROL, code: int = 0) -> Result:
        result = xobackup(*arguments, "--config", self.config(at))
        assert result.code == code, f"expected exit code {code}, found {result}"
        return result

    def start(self, *arguments: str | Path, at: str = CONTROL, **options: Any) -> subprocess.Popen[str]:
        return start(*arguments, "--config", self.config(at), **options)

    def worker(self, site: str) -> subprocess.Popen[str]:
        """A worker of that site, that lives when this returns."""
        before = len(self.alive())
        process = self.start("worker", "--site", site, "--json", at=site)
        self.processes.append(process)
        wait_until(lambda: len(self.alive()) > before)
        return process

    def alive(self) -> list[dict[str, Any]]:
        return [one for one in self.xobackup("workers", "--json").of("worker") if one["alive"]]

    def relay_of(self, site: str) -> str:
        """The address of its relay."""
        (found,) = [one["relay"] for one in self.alive() if one["worker"]["site"] == site]
        return str(found)

    def journal(self) -> list[dict[str, Any]]:
        newest = max((self.state() / "journal").glob("*.jsonl"))
        return [json.loads(line) for line in newest.read_text().splitlines()]

    def drain(self) -> None:
        """Every worker ends well."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        while self.processes:
            process = self.processes.pop()
            out, err = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0 and "drained" in out + err, out + err


def free_port() -> int:
    """On which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
