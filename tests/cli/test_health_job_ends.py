"""Health checks of a job when it is stopped or killed, those of replicas, and what is remembered of them."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.simpool import HostSpec, SimPool, VmSpec
from xobackup.simpool.spec import GIB, DiskSpec
from xotest.site import SMALL, Result, Site, site_at, wait_until, xobackup
from xotest.site import start as start_process
from xotest.two_pools import TARGET_POOL

DISK = DiskSpec(name="d", size_bytes=4 << 20, filled_bytes=1 << 20)
SPEC = replace(
    SMALL,
    hosts=(HostSpec(memory_bytes=24 * GIB),),
    vms=(
        VmSpec(name="good", disks=(DISK,), guest="tools=0.1", tags=("prod", "gold"), power_state="Halted"),
        VmSpec(name="mute", disks=(DISK,), guest="tools=never", tags=("prod", "mute"), power_state="Halted"),
    ),
)
REPLICAS = '[jobs.dr.health_check]\nreplica = "dr"\ntimeout = "1s"\n'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path, SPEC) as made:
        yield made


def things(pool: SimPool) -> tuple[set[str], set[str]]:
    """VMs and disks, without snapshots and what the storage keeps beneath them."""
    disks = pool.model.records("VDI").items()
    return (
        {ref for ref, vm in pool.model.records("VM").items() if not vm["is_a_snapshot"]},
        {ref for ref, vdi in disks if vdi["managed"] and not vdi["is_a_snapshot"]},
    )


def booted(pool: SimPool, name: str) -> bool:
    return any(
        vm["name_label"] == name and vm["power_state"] == "Running" for vm in pool.model.records("VM").values()
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_dies_or_is_stopped_in_its_check_leaves_nothing(site: Site, how: signal.Signals) -> None:
    site.configure('health_check = { sr = "Local storage", tags = ["mute"] }')
    before = things(site.pool)
    process = site.start("run")
    wait_until(lambda: booted(site.pool, "Health Check - mute"))
    process.send_signal(how)
    process.communicate()
    if how is signal.SIGKILL:
        assert things(site.pool) != before
        site.configure()
        site.xobackup("run")
    else:
        assert process.returncode == 130
    assert things(site.pool) == before
    assert all(vm["points"] >= 1 for vm in site.xobackup("backups", "list", "--json").of("vm"))


def test_backups_tell_what_the_last_test_found_and_forget_it_gracefully(site: Site) -> None:
    site.configure('health_check = { sr = "Local storage", timeout = "5s" }')
    site.xobackup("run", code=3)
    listed = {vm["name"]: vm["last_test"] for vm in site.xobackup("backups", "list", "--json").of("vm")}
    assert listed["good"]["ok"] and not listed["mute"]["ok"]
    assert "no guest tools" in listed["mute"]["reason"]
    text = site.xobackup("backups", "list").out
    assert "booted" in text and "FAILED 2" in text and "ok 2" in text
    shown = site.xobackup("backups", "show", "good", "--json").of("restore-point")[0]["last_test"]
    assert shown["ok"] and shown["sr"] == "Local storage" and shown["boot_s"] > 0
    assert "boots: tested" in site.xobackup("backups", "show", "good").out
    assert "does not boot: tested" in site.xobackup("backups", "show", "mute").out
    site.configure()
    site.xobackup("run", "--vm", "good")
    points = site.xobackup("backups", "show", "good", "--json").of("restore-point")
    assert [point["last_test"] is not None for point in points] == [True, False]
    shutil.rmtree(site.state / "health")
    listed = {vm["name"]: vm["last_test"] for vm in site.xobackup("backups", "list", "--json").of("vm")}
    assert listed == {"good": None, "mute": None}
    assert "booted" not in site.xobackup("backups", "list").out


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[tuple[Path, SimPool]]:
    """A job that only replicates, and the pool that it replicates to."""
    with (
        SimPool.start(tmp_path / "pool", spec=SPEC) as pool,
        SimPool.start(tmp_path / "other", spec=TARGET_POOL) as other,
    ):
        path = tmp_path / "xobackup.toml"
        text = f'state_directory = "{tmp_path / "state"}"\n'
        for name, one in (("main", pool), ("second", other)):
            text += f'[pools.{name}]\nurl = "{one.url}"\npassword = "{one.password}"\n'
            text += f'tls.ca = "{one.ca_pem_path}"\n'
        text += """
[targets.dr]
pool = "second"
srs = ["dr ssd"]
[jobs.dr]
pool = "main"
replicate_to = ["dr"]
retries = 0
vms.include = [{ tag = "prod" }]
"""
        path.write_text(text + REPLICAS)
        yield path, other


def test_a_replica_is_checked_by_a_clone_that_goes(replicated: tuple[Path, SimPool]) -> None:
    config, pool = replicated
    assert "health check of good by a clone of its replica in second: never" in xobackup("plan", "-c", config).out
    done = xobackup("run", "-c", config, "--json")
    assert done.code == 3, done
    checks = {one["vm_name"]: one for one in done.of("report")[0]["checks"]}
    assert checks["good"]["ok"] and not checks["mute"]["ok"], checks
    assert [step["name"] for step in checks["good"]["steps"]] == ["clone", "boot", "guest tools"]
    assert checks["good"]["sr"] == "dr ssd" and checks["mute"]["removed"]
    assert not [vm for vm in pool.model.records("VM").values() if "Health Check" in vm["name_label"]]
    assert {one["state"] for one in xobackup("replicas", "-c", config, "--json").of("replica")} == {"ready"}
    assert xobackup("run", "-c", config).code == 3  # the replicas go on as before
    assert "Health Check" not in xobackup("replicas", "-c", config).out


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_clone_of_a_run_that_dies_or_is_stopped_goes(
    replicated: tuple[Path, SimPool], how: signal.Signals
) -> None:
    config, pool = replicated
    config.write_text(config.read_text().replace(REPLICAS, ""))
    assert xobackup("run", "-c", config).code == 0
    before = things(pool)
    config.write_text(config.read_text() + '[jobs.dr.health_check]\nreplica = "dr"\ntags = ["mute"]\n')
    process = start_process("run", "-c", config)
    wait_until(lambda: booted(pool, "Health Check - mute"))
    process.send_signal(how)
    process.communicate()
    if how is signal.SIGKILL:
        assert things(pool) != before
        config.write_text(config.read_text().replace('tags = ["mute"]', 'tags = ["gold"]'))
        assert xobackup("run", "-c", config).code == 0
    assert things(pool) == before


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ('replica = "dx"', "is no target in replicate_to"),
        ('replica = "dr"\nsr = "x"', "leave out sr, pool and remote"),
        ('sr = "x"', "for replicas say replica"),
        ("", "say where VMs are restored to"),
    ],
)
def test_what_cannot_work_is_refused(replicated: tuple[Path, SimPool], section: str, told: str) -> None:
    config, _ = replicated
    config.write_text(config.read_text().replace(REPLICAS, f"[jobs.dr.health_check]\n{section}\n"))
    found = xobackup("config", "check", "-c", config)
    assert found.code == 2 and told in found.err


def test_replicas_are_checked_by_hand(replicated: tuple[Path, SimPool]) -> None:
    config, pool = replicated
    config.write_text(config.read_text().replace(REPLICAS, ""))
    for _ in range(2):
        assert xobackup("run", "-c", config).code == 0
    before = things(pool)

    def check(*arguments: str | Path, code: int = 0) -> Result:
        done = xobackup("health-check", "--replica", "dr", *arguments, "-c", config)
        assert done.code == code, done
        assert things(pool) == before, "something was left on the pool"
        return done

    planned = check("--dry-run", "--json").of("health-check-plan")
    assert [one["pool"] for one in planned] == ["second", "second"]
    report = config.parent / "checks.html"
    (found,) = check("good", "--json", "--report", report).of("health-check")
    assert found["ok"] and (found["remote"], found["sr"], found["vm_name"]) == ("dr", "dr ssd", "good")
    assert [step["name"] for step in found["steps"]] == ["clone", "boot", "guest tools"]
    assert "1 of 1 VMs passed" in report.read_text()
    (replica,) = [
        one
        for one in xobackup("replicas", "-c", config, "--json").of("replica")
        if one["vm_uuid"] == found["vm_uuid"]
    ]
    newest, oldest = [point["id"] for point in replica["points"]]
    (older,) = check(found["vm_uuid"], "--point", oldest, "--json").of("health-check")
    assert (found["point"], older["point"]) == (newest, oldest)
    assert "mute: FAILED: no guest tools" in check("--every", "7d", "--timeout", "1s", code=1).out
    assert "no VM is due" in check("--every", "7d").out

    process = start_process("health-check", "--replica", "dr", "mute", "-c", config)
    wait_until(lambda: booted(pool, "Health Check - mute"))
    process.kill()
    process.communicate()
    (left,) = [vm for vm in pool.model.records("VM").values() if vm["name_label"] == "Health Check - mute"]
    assert left["VIFs"] == [] and "xo:no-bak=Health Check" in left["tags"] and things(pool) != before
    assert "good: healthy" in check("good").out

    for arguments, told in (
        (("--sr", "x"), "leave out --sr"),
        (("nobody",), "no replica of a VM 'nobody'"),
        (("good", "--point", "1999"), "is no restore point that can be used"),
        (("--tcp", "22"), "needs a network"),
        (("--network", "nowhere"), "nowhere"),
    ):
        assert told in check(*arguments, code=2).err, arguments
    assert "no target 'dx'" in xobackup("health-check", "--replica", "dx", "-c", config).err
    assert "--remote, --pool, --sr not given" in xobackup("health-check", "good", "-c", config).err
