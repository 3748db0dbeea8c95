"""Replication to a pool that only a worker of its own site reaches, through a relay there."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from xobackup.cli.pool_hosts import PoolHosts
from xobackup.config.load import load_configuration
from xobackup.relay.errors import Refused
from xobackup.simpool import SimPool
from xotest.bad_line import BadLine
from xotest.site import SMALL, TIMEOUT_S, Result, start, wait_until, xobackup
from xotest.two_pools import TARGET_POOL
from xotest.two_sites import free_port

JOB = """
[targets.dr]
pool = "lyon"
sr = "dr ssd"
[jobs.nightly]
pool = "paris"
replicate_to = ["dr"]
vms.include = [{ tag = "prod" }]
retention = 2
retries = 0
"""
WRONG = "00" * 32


@dataclass
class Pools:
    """``paris`` has VMs, ``lyon`` gets replicas. Only Lyon's worker has the fingerprint of Lyon's hosts: whoever else
    would connect to them finds that they are not whom he expects."""

    directory: Path
    paris: SimPool
    lyon: SimPool
    relay: str = ""
    processes: list[Any] = field(default_factory=list)

    def config(self, machine: str) -> Path:
        text = f'state_directory = "{self.directory / machine}"\n[engine]\nwait = "20s"\nsite = "{machine}"\n'
        text += f'database = "sqlite:///{self.directory}/engine.db"\n'
        if machine == "lyon":
            text += f"[engine.relay]\n{self.relay}\n"
        for name, pool in (("paris", self.paris), ("lyon", self.lyon)):
            mine = name == machine or (machine, name) == ("control", "paris")
            print_ = pool.fingerprint_sha256 if mine else WRONG
            text += f'[pools.{name}]\nurl = "{pool.url}"\nsites = ["{name}"]\n'
            text += f'tls = {{ fingerprint = "{print_}" }}\npassword = "{pool.password}"\n'
        path = self.directory / f"{machine}.toml"
        path.write_text(text + JOB)
        return path

    def run(self, *arguments: str, code: int = 0) -> Result:
        result = xobackup(*arguments, "--config", self.config("control"))
        assert result.code == code, result
        return result

    def worker(self, site: str) -> None:
        before = self.living()
        self.processes.append(start("worker", "--site", site, "--json", "--config", self.config(site)))
        wait_until(lambda: self.living() > before)

    def living(self) -> int:
        return sum(one["alive"] for one in self.run("workers", "--json").of("worker"))

    def drain(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            out, err = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0, out + err

    def journal(self) -> list[dict[str, Any]]:
        newest = max((self.directory / "control" / "journal").glob("*.jsonl"))
        return [json.loads(line) for line in newest.read_text().splitlines()]

    def check(self) -> None:
        """Every replica has the bytes of its VM."""
        for vm in ("web", "db"):
            wanted = [self.paris.disk_sha256(ref) for ref in self.paris.vdis_of(self.paris.vm_named(vm))]
            replica = self.lyon.vm_named(f"{vm} [nightly replica]")
            assert [self.lyon.disk_sha256(ref) for ref in self.lyon.vdis_of(replica)] == wanted


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[Pools]:
    with (
        SimPool.start(tmp_path / "one", spec=SMALL) as paris,
        SimPool.start(tmp_path / "other", spec=TARGET_POOL) as lyon,
    ):
        yield Pools(
            directory=tmp_path, paris=paris, lyon=lyon, relay='listen = "127.0.0.1:0"\naddress = "127.0.0.1:0"'
        )


def test_full_and_delta_through_a_relay(pools: Pools) -> None:
    pools.worker("paris")
    told = " ".join(pools.run("plan").out.split())
    assert "no site reaches all of paris, dr, and no worker with a relay lives that leads to dr" in told, told
    pools.worker("lyon")
    way = "site paris is nearest to paris; dr through the relay at lyon"
    assert way in " ".join(pools.run("plan").out.split())
    for number in range(2):
        pools.paris.gc()
        pools.lyon.gc()
        disk = pools.paris.vdis_of(pools.paris.vm_named("web"))[0]
        pools.paris.write_disk(disk, 65536 * number, bytes([number + 1]) * 4096)
        report = pools.run("run", "--json").of("report")[0]
        assert report["outcome"] == "ok", report
        assert all(vm["points"]["dr"] and vm["fulls" if number == 0 else "deltas"] for vm in report["vms"]), report
        pools.check()
    journal = pools.journal()
    assert {one["site"] for one in journal if one["kind"] == "taken-by-worker"} == {"paris"}
    assert {one["reason"] for one in journal if one["kind"] == "handed-out"} == {way}
    pools.drain()


def test_a_line_that_is_cut_is_not_noticed_by_the_pool(pools: Pools) -> None:
    port = free_port()
    with BadLine("127.0.0.1", port, bytes_s=8e6) as line:
        pools.relay = f'listen = "127.0.0.1:{port}"\naddress = "{line.address}"'
        for site in ("paris", "lyon"):
            pools.worker(site)
        line.cut_every(1_500_000)
        report = pools.run("run", "--json").of("report")[0]
        assert report["outcome"] == "ok" and line.cuts >= 3, (line.cuts, report)
        assert not any(vm["warnings"] for vm in report["vms"])
        pools.drain()
    pools.check()


def test_a_pool_that_the_relay_does_not_lead_to(pools: Pools) -> None:
    pools.relay += "\npools = []"
    for site in ("paris", "lyon"):
        pools.worker(site)
    report = pools.run("run", "--json", code=1).of("report")[0]
    assert "no task of worker" in report["vms"][0]["reason"], report
    pools.drain()


def test_a_relay_connects_to_hosts_of_the_pool_and_to_nothing_else(pools: Pools) -> None:
    hosts = PoolHosts(load_configuration(pools.config("lyon")))
    port = int(pools.lyon.url.rpartition(":")[2])
    hosts.connect("pool:lyon", "127.0.0.1", port).close()
    for name, wrong in (("127.0.0.1", 22), ("localhost", port), ("10.9.9.9", port)):
        with pytest.raises(Refused, match="is no host of pool lyon"):
            hosts.connect("pool:lyon", name, wrong)
    with pytest.raises(Refused, match="there is no pool 'other'"):
        hosts.connect("pool:other", "127.0.0.1", port)
    strange = PoolHosts(load_configuration(pools.config("paris")))
    with pytest.raises(Refused, match="its certificate is not the pinned one"):
        strange.connect("pool:lyon", "127.0.0.1", port)
