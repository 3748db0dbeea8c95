"""Two sites with a pool each, machines in network namespaces, and PostgreSQL between them: what a company has.

Every machine has a configuration file and a state directory of its own. The jobs are named by seeds: ``s3`` backs up
the VMs of one pool that have the tag ``s3``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xotest.netns import DATABASE, POOLS, Hub, Machine, hub
from xotest.postgres import PostgresServer, stoppable_postgres
from xotest.site import MIB, PASSWORD, STARTED, Result, command, environment, finish

SITES = tuple(POOLS)
NETWORK = "10.77.0.0/16"


def site_of(seed: int) -> str:
    """Whose pool has the VMs of a seed's job."""
    return SITES[seed % len(SITES)]


@dataclass(kw_only=True)
class Company:
    """See the module's head. ``seeds``: one job each, of ``vms`` VMs."""

    directory: Path
    hub: Hub
    pools: dict[str, SimPool]
    server: PostgresServer
    seeds: Sequence[int]
    engine: Sequence[str]
    """Lines of every machine's ``[engine]``."""
    control: Sequence[str]
    """Lines of every control node's configuration."""
    machines: dict[str, Machine] = field(default_factory=dict)

    @property
    def database(self) -> str:
        """As machines know it."""
        return f"postgresql://xobackup@{DATABASE}:5432/postgres"

    def repository(self, site: str) -> Path:
        return self.directory / f"repository-{site}"

    def state(self, machine: str) -> Path:
        return self.directory / machine / "state"

    def config(self, machine: str) -> Path:
        return self.directory / machine / "xobackup.toml"

    def machine(self, name: str, *, site: str = "") -> Machine:
        """A machine with its configuration; a worker's has only what is at its site."""
        made = self.machines[name] = self.hub.machine(name, site=site)
        lines = [f'state_directory = "{self.state(name)}"', "[engine]", f'database = "{self.database}"']
        lines += [f'site = "{site or "control"}"', *self.engine]
        for one in [site] if site else SITES:
            lines += self._place(one)
        for seed in self.seeds:
            if site in ("", site_of(seed)):
                lines += self._job(seed)
        self.state(name).mkdir(parents=True)
        self.config(name).write_text("\n".join([*lines, *([] if site else self.control)]) + "\n")
        return made

    def _place(self, site: str) -> list[str]:
        pool = self.pools[site]
        return [
            f"[pools.{site}]",
            f'url = "{pool.url}"',
            f'password = "{PASSWORD}"',
            f'tls = {{ fingerprint = "{pool.fingerprint_sha256}" }}',
            f'sites = ["{site}"]',
            f"[remotes.nas-{site}]",
            f'url = "file://{self.repository(site)}"',
            f'sites = ["{site}"]',
        ]

    def _job(self, seed: int) -> list[str]:
        site = site_of(seed)
        return [
            f"[jobs.s{seed}]",
            f'pool = "{site}"',
            f'remotes = ["nas-{site}"]',
            f'vms.include = [{{ tag = "s{seed}" }}]',
            "retention = 3",
            "retries = 3",
            "retry_pause_s = 1",
            "vms_max = 4",
        ]

    def start(self, machine: str, *arguments: str) -> subprocess.Popen[str]:
        """A command on a machine, with its configuration; what it says goes to ``said.txt`` beside that."""
        with (self.directory / machine / "said.txt").open("a") as said:
            process = subprocess.Popen(
                self._line(machine, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(),
            )
        STARTED.append(process)
        return process

    def run(self, machine: str, *arguments: str, code: int = 0) -> Result:
        """A command on a machine, to its end."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            self._line(machine, *arguments), stdout=pipe, stderr=pipe, text=True, env=environment()
        )
        STARTED.append(process)
        result = finish(process)
        assert result.code == code, f"{arguments}: expected exit code {code}, found {result}"
        return result

    def said(self, machine: str) -> str:
        return (self.directory / machine / "said.txt").read_text()

    def _line(self, machine: str, *arguments: str) -> list[str]:
        return self.machines[machine].command(*command(*arguments, "--config", self.config(machine)))


@contextmanager
def company_at(
    directory: Path, *, seeds: Sequence[int], vms: int, engine: Sequence[str] = (), control: Sequence[str] = ()
) -> Iterator[Company]:
    """Pools, database and namespaces; no machine yet."""
    with ExitStack() as held:
        middle = held.enter_context(hub())
        with middle.entered():
            pools = {}
            for site, address in POOLS.items():
                mine = [seed for seed in seeds if site_of(seed) == site]
                spec = PoolSpec(
                    password=PASSWORD,
                    vms=tuple(
                        VmSpec(
                            name=f"s{seed}-{number}",
                            disks=(DiskSpec(name="disk", size_bytes=4 * MIB, filled_bytes=MIB),),
                            tags=(f"s{seed}",),
                        )
                        for seed in mine
                        for number in range(vms)
                    ),
                )
                pool = SimPool.start(directory / f"pool-{site}", spec=spec, address=address)
                pools[site] = held.enter_context(pool)
            server = held.enter_context(stoppable_postgres(DATABASE, NETWORK))
        made = Company(
            directory=directory, hub=middle, pools=pools, server=server, seeds=seeds, engine=engine, control=control
        )
        for site in SITES:
            made.repository(site).mkdir()
        yield made
