"""``health-check``: VMs are booted from their restore points, told about, and removed, whatever happens."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from xobackup.simpool import HostSpec, VmSpec
from xobackup.simpool.spec import GIB, DiskSpec
from xotest.site import SMALL, Site, site_at, wait_until

DISK = DiskSpec(name="d", size_bytes=4 << 20, filled_bytes=1 << 20)
XENSTORE = "xo-backup-health-check-xenstore"
SPEC = replace(
    SMALL,
    hosts=(HostSpec(memory_bytes=24 * GIB),),
    vms=(
        VmSpec(
            name="good", disks=(DISK,), guest="tools=0.2 script=ok", tags=("prod", XENSTORE), power_state="Halted"
        ),
        VmSpec(name="mute", disks=(DISK,), guest="tools=never", tags=("prod",), power_state="Halted"),
        VmSpec(
            name="ill",
            disks=(DISK,),
            guest="script=fails script-error=no-database",
            tags=("prod", XENSTORE),
            power_state="Halted",
        ),
        VmSpec(name="weak", disks=(DISK,), guest="tools=never stops=0.2", tags=("prod",), power_state="Halted"),
        VmSpec(name="huge", disks=(DISK,), memory_bytes=100 * GIB, tags=("prod",), power_state="Halted"),
        VmSpec(
            name="shy",
            disks=(DISK,),
            tags=(
                "prod",
                "xo:no-health-check=too big",
            ),
            power_state="Halted",
        ),
    ),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(tmp_path_factory.mktemp("health"), SPEC) as made:
        made.xobackup("run")
        yield made


def things(site: Site) -> tuple[set[str], set[str]]:
    return set(site.pool.model.records("VM")), set(site.pool.model.records("VDI"))


def check(site: Site, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    before = things(site)
    where = ("--remote", "nas", "--pool", "sim", "--sr", "Local storage", "--json")
    found = site.xobackup("health-check", *arguments, *where, code=code).of("health-check")
    assert things(site) == before, "something was left on the pool"
    return found


def test_a_vm_that_comes_up_is_healthy_and_its_steps_are_measured(site: Site) -> None:
    (found,) = check(site, "good")
    assert found["ok"] and found["reason"] == "" and found["removed"]
    assert [step["name"] for step in found["steps"]] == ["restore", "boot", "guest tools", "script in the guest"]
    assert found["rto_s"] >= 0.2 and found["size_bytes"] == 4 << 20


@pytest.mark.parametrize(
    ("vm", "timeout", "expected"),
    [
        ("mute", "1s", "no guest tools have reported"),
        ("ill", "60s", "the script in the guest failed: no-database"),
        ("weak", "60s", "stopped by itself"),
        ("huge", "60s", "no host has enough free memory"),
    ],
)
def test_a_vm_that_does_not_is_told_why_and_removed(site: Site, vm: str, timeout: str, expected: str) -> None:
    (found,) = check(site, vm, "--timeout", timeout, code=1)
    assert not found["ok"] and expected in found["reason"] and found["removed"]


def test_a_guest_without_tools_is_asked_by_a_command(site: Site) -> None:
    (found,) = check(site, "mute", "--no-tools", "--command", "sh -c 'test \"$XOBACKUP_VM_NAME\" = mute'")
    assert found["ok"]
    (found,) = check(site, "mute", "--no-tools", "--command", "sh -c 'echo no web; exit 3'", code=1)
    assert found["reason"] == "the command sh ended with 3: no web"


def test_a_sample_takes_those_never_checked_first_and_leaves_out_who_opted_out(site: Site) -> None:
    for known in site.directory.rglob("health/*.json"):
        known.unlink()
    check(site, "good")
    found = check(site, "--vms", "4", "--every", "7d", "--timeout", "1s", code=1)
    assert {one["vm_name"] for one in found} == {"mute", "ill", "weak", "huge"}
    assert check(site, "--every", "7d") == []
    assert [one["vm_name"] for one in check(site, "--vms", "1")] == ["good"]


def test_reports_are_written(site: Site) -> None:
    check(site, "good", "--report", str(site.directory / "r.html"))
    check(site, "good", "--report", str(site.directory / "r.json"))
    assert "1 of 1 VMs passed" in (site.directory / "r.html").read_text()
    assert json.loads((site.directory / "r.json").read_text())["failed"] == 0


def test_what_a_killed_check_left_goes_at_the_next_start(site: Site) -> None:
    before = things(site)
    where = ("--remote", "nas", "--pool", "sim", "--sr", "Local storage")
    process = site.start("health-check", "mute", *where)
    name = "Health Check - mute"

    def running() -> bool:
        return any(
            vm["name_label"] == name and vm["power_state"] == "Running"
            for vm in site.pool.model.records("VM").values()
        )

    wait_until(running)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = [vm for vm in site.pool.model.records("VM").values() if vm["name_label"] == name]
    assert left["VIFs"] == [] and "xo:no-bak=Health Check" in left["tags"] and left["blocked_operations"] == {}
    check_again = site.xobackup("health-check", "good", *where, "--json").of("health-check")
    assert check_again[0]["ok"] and things(site) == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tcp", "22"], "needs a network"),
        (["--no-tools"], "nothing says that the VM is up"),
        (["--timeout", "soon"], "--timeout: expected a number"),
        (["--report", "x.pdf"], "--report: expected"),
        (["--sr", "nope"], "SR 'nope'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(site: Site, options: list[str], expected: str) -> None:
    before = things(site)
    where = ("--remote", "nas", "--pool", "sim", "--sr", "Local storage")
    assert expected in site.xobackup("health-check", "good", *where, *options, code=2).err
    assert things(site) == before
