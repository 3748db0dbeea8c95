"""A whole installation for tests of the command line: a pool, a configuration file, a repository, and the program.

:meth:`Site.xobackup` runs a command inside this process (fast); :meth:`Site.start` as a process of its own, where
signals, terminals and file descriptors matter.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xobackup.cli.main import main
from xobackup.clock import SystemClock
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec

MIB = 1 << 20
PASSWORD = "correct horse 7 battery"
TIMEOUT_S = 60
STARTED: list[subprocess.Popen[str]] = []
"""Ended by :func:`end_all` should a test have failed before it did."""
ROOT = Path(__file__).resolve().parents[3]
SMALL = PoolSpec(
    password=PASSWORD,
    vms=(
        VmSpec(
            name="web",
            disks=(
                DiskSpec(name="web system", size_bytes=8 * MIB, filled_bytes=3 * MIB),
                DiskSpec(name="web data", size_bytes=6 * MIB, filled_bytes=2 * MIB),
            ),
            tags=("prod",),
        ),
        VmSpec(
            name="db", disks=(DiskSpec(name="db data", size_bytes=6 * MIB, filled_bytes=4 * MIB),), tags=("prod",)
        ),
        VmSpec(name="scratch", disks=(DiskSpec(name="scratch", size_bytes=2 * MIB),), tags=("test",)),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Standard output of a command with ``--json``: every line an object with a ``kind``."""
        found = [json.loads(line) for line in self.out.splitlines()]
        assert all(isinstance(record, dict) and record["kind"] for record in found)
        return found

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]


def xobackup(*arguments: str | Path) -> Result:
    """The command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Result(code=int(code), out=out.getvalue(), err=err.getvalue())


def command(*arguments: str | Path) -> list[str]:
    """The command line for a process of its own."""
    return [sys.executable, "-m", "xobackup", *(str(argument) for argument in arguments)]


def environment(**extra: str) -> dict[str, str]:
    """Of a process of its own: this source tree, whatever is installed."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XOBACKUP_")}
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **extra}


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """A process of its own; standard output and error are pipes unless ``options`` say otherwise."""
    defaults: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": environment(),
    }
    process: subprocess.Popen[str] = subprocess.Popen(command(*arguments), **{**defaults, **options})
    STARTED.append(process)
    return process


def end_all() -> None:
    """Kill what a failed test left running, and close its pipes."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def wait_until(claim: Callable[[], bool]) -> None:
    """Wait for what another process is about to cause."""
    clock = SystemClock()
    end_s = clock.monotonic_s() + TIMEOUT_S
    while not claim():
        assert clock.monotonic_s() < end_s, "it did not happen"
        clock.sleep(0.01)


def finish(process: subprocess.Popen[str], *, timeout_s: float = TIMEOUT_S) -> Result:
    out, err = process.communicate(timeout=timeout_s)
    return Result(code=process.returncode, out=out or "", err=err or "")


@dataclass(slots=True, kw_only=True)
class Site:
    """See the module's head."""

    directory: Path
    pool: SimPool
    lines: list[str] = field(default_factory=list)
    """More lines of the job's table."""

    @property
    def config(self) -> Path:
        return self.directory / "xobackup.toml"

    @property
    def repository(self) -> Path:
        return self.directory / "repository"

    @property
    def other(self) -> Path:
        """A second repository, when the configuration names it; not made by itself."""
        return self.directory / "other"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def configure(self, *lines: str, replace: tuple[str, str] | None = None, remotes: str = '["nas"]') -> Path:
        """Write the configuration; ``lines`` go into the job's table, ``replace`` changes the text."""
        self.repository.mkdir(exist_ok=True)
        text = "\n".join(
            [
                f'state_directory = "{self.state}"',
                "[pools.sim]",
                f'url = "{self.pool.url}"',
                f'password = "{self.pool.password}"',
                f'tls = {{ fingerprint = "{self.pool.fingerprint_sha256}" }}',
                "[remotes.nas]",
                f'url = "file://{self.repository}"',
                *(["[remotes.other]", f'url = "file://{self.other}"'] if "other" in remotes else []),
                "[jobs.nightly]",
                'pool = "sim"',
                f"remotes = {remotes}",
                'vms.include = [{ tag = "prod" }]',
                "retention = 2",
                "retries = 0",
                *self.lines,
                *lines,
            ]
        )
        if replace is not None:
            assert replace[0] in text, f"{replace[0]!r} is not in the configuration"
            text = text.replace(*replace)
        self.config.write_text(text + "\n")
        return self.config

    def xobackup(self, *arguments: str | Path, code: int = 0) -> Result:
        """A command with this configuration; ``code`` is the exit code expected."""
        result = xobackup(*arguments, "--config", self.config)
        assert result.code == code, f"expected exit code {code}, found {result}"
        return result

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return start(*arguments, "--config", self.config, **options)

    def copy(self, directory: Path) -> Site:
        """A site of one's own with a copy of the repository, at the same pool."""
        site = Site(directory=directory, pool=self.pool)
        shutil.copytree(self.repository, site.repository)
        site.configure()
        return site

    def uuid(self, vm: str) -> str:
        return str(self.pool.model.get("VM", self.pool.vm_named(vm))["uuid"])

    def disk_sha256(self, vm: str, number: int) -> str:
        """Of the live disk."""
        return self.pool.disk_sha256(self.pool.vdis_of(self.pool.vm_named(vm))[number])

    def write(self, vm: str, number: int, data: bytes, offset: int = 0) -> None:
        """As the guest."""
        self.pool.write_disk(self.pool.vdis_of(self.pool.vm_named(vm))[number], offset, data)

    def vdi_paths(self, vm: str) -> list[Path]:
        """Every VHD file of a VM in the repository."""
        return sorted((self.repository / "xo-vm-backups" / self.uuid(vm)).glob("vdis/*/*/*.vhd"))

    def damage(self, vm: str, *, offset: int = -100_000) -> None:
        """Flip a bit in the VM's largest disk file: by default in a block's data, which only a digest can tell."""
        path = max(self.vdi_paths(vm), key=lambda one: one.stat().st_size)
        raw = bytearray(path.read_bytes())
        raw[offset] ^= 1
        path.write_bytes(raw)


@contextlib.contextmanager
def site_at(directory: Path, spec: PoolSpec = SMALL) -> Iterator[Site]:
    """A site with an empty repository."""
    with SimPool.start(directory / "pool", spec=spec) as pool:
        site = Site(directory=directory, pool=pool)
        site.configure()
        yield site
        assert not pool.faults.unfired()
