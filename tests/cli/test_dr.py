"""``dr``: plans, tests that leave nothing, failovers that can be run again, against two pools."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from xobackup.engine import keys
from xobackup.engine.replication.points import CLASSES, find_points
from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, VmSpec
from xobackup.simpool.spec import GIB
from xotest.site import Result, finish, start, wait_until, xobackup
from xotest.two_pools import TARGET_POOL

DISK = DiskSpec(name="d", size_bytes=4 << 20, filled_bytes=1 << 20)
VMS = (
    VmSpec(name="db - one", disks=(DISK, DISK), guest="tools=0.2", tags=("tier1",), networks=("LAN",)),
    VmSpec(name="web", disks=(DISK,), guest="tools=0.1", tags=("tier2",), networks=("LAN",)),
    VmSpec(name="mute", disks=(DISK,), guest="tools=never", networks=("LAN",)),
    VmSpec(name="bare", disks=(DISK,), networks=("LAN",)),
)
PLAN = """
[dr.site]
target = "dr"
rpo = "15m"
test_network = "isolated"
groups = [
  { name = "databases", vms = [{ tag = "tier1" }], delay_s = 0.2, ready = { timeout_s = 20 } },
  { name = "rest", vms = ["web"], auto_start = false },
]
"""


@dataclass(slots=True)
class Sites:
    path: Path
    main: SimPool
    other: SimPool

    def __call__(self, *arguments: str | Path, code: int = 0) -> Result:
        done = xobackup("dr", *arguments, "-c", self.path)
        assert done.code == code, done.err or done.out
        return done

    def plan(self, text: str) -> None:
        self.path.write_text(self.path.read_text().partition("[dr.site]")[0] + text)

    def things(self) -> dict[str, Any]:
        """All of the other pool's VMs and disks; what others may have renewed left out."""
        return {cls: set(self.other.model.records(cls)) for cls in ("VM", "VDI", "VBD", "VIF")}

    def vms(self, name: str) -> list[dict[str, Any]]:
        return [vm for vm in self.other.model.records("VM").values() if vm["name_label"] == name]

    def macs(self, pool: SimPool, vm: dict[str, Any]) -> list[str]:
        return [pool.model.get("VIF", ref)["MAC"] for ref in vm["VIFs"]]

    def disks(self, pool: SimPool, name: str) -> list[str]:
        return [pool.disk_sha256(ref) for ref in pool.vdis_of(pool.vm_named(name))]

    def stop_main(self) -> None:
        for vm in VMS:
            if self.main.model.get("VM", self.main.vm_named(vm.name))["power_state"] == "Running":
                self.main.call("VM.hard_shutdown", self.main.vm_named(vm.name))


@pytest.fixture(scope="module")
def shared_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with sites_at(tmp_path_factory.mktemp("dr")) as made:
        yield made


@pytest.fixture
def sites(shared_sites: Sites) -> Sites:
    """For tests that leave both pools as they are."""
    shared_sites.plan(PLAN)
    return shared_sites


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sites]:
    with sites_at(tmp_path) as made:
        yield made


@contextmanager
def sites_at(tmp_path: Path) -> Iterator[Sites]:
    there = replace(TARGET_POOL, networks=("LAN", "isolated"), hosts=(HostSpec(memory_bytes=24 * GIB),))
    with (
        SimPool.start(tmp_path / "pool", spec=PoolSpec(vms=VMS, networks=("LAN",))) as pool,
        SimPool.start(tmp_path / "other", spec=there, seed=5) as other,
    ):
        path = tmp_path / "xobackup.toml"
        text = f'state_directory = "{tmp_path / "state"}"\n'
        for name, one in (("main", pool), ("second", other)):
            text += f'[pools.{name}]\nurl = "{one.url}"\npassword = "{one.password}"\n'
            text += f'tls.ca = "{one.ca_pem_path}"\n'
        text += """
[targets.dr]
pool = "second"
sr = "dr ssd"
[jobs.copy]
pool = "main"
replicate_to = ["dr"]
vms.include = [{ name = "*" }]
vms.exclude = [{ name = "bare" }]
retention = 3
"""
        path.write_text(text + PLAN)
        done = xobackup("run", "-c", path)
        assert done.code == 0, done
        yield Sites(path, pool, other)


def test_a_plan_says_what_would_be_done_and_what_is_in_the_way(sites: Sites) -> None:
    shown = sites("plan", "site", "--json").of("dr-plan-vm")
    assert [(one["group"], one["name"], one["networks"], one["original"]) for one in shown] == [
        ("databases", "db - one", ["LAN"], "Running"),
        ("rest", "web", ["LAN"], "Running"),
    ]
    sites.plan(PLAN.replace('"15m"', '"0.001s"').replace('["web"]', '["web", "bare", "nobody"]'))
    found = sites("plan", "site", "--json", code=3).of("dr-plan")[0]["problems"]
    assert "no VM with a replica at target dr matches" in found[0] and "nobody" in found[0]
    assert found[1].startswith("bare: it has no replica at target dr")
    told = sites("plan", "site", code=3)
    assert "rpo" in " ".join(told.out.split()) and "bare: it has no replica" in told.err
    sites.plan(PLAN.replace("isolated", "gone"))
    assert "test_network (without it no test): network 'gone': no such" in sites("plan", "site").err
    sites("test", "site", code=2)


def test_a_test_measures_reports_and_leaves_nothing(sites: Sites) -> None:
    before = sites.things()
    sites.plan(PLAN.replace('["web"]', '["web", "mute"]').replace("auto_start = false", "ready.timeout_s = 1"))
    page, data = sites.path.parent / "r.html", sites.path.parent / "r.json"
    done = sites("test", "site", "--report", page, "--json", code=3)
    assert sites.things() == before
    (found,) = done.of("dr-test")
    by_name = {one["name"]: one for one in found["vms"]}
    assert by_name["db - one"]["ok"] and by_name["web"]["ok"] and all(one["removed"] for one in found["vms"])
    assert "no guest tools have reported" in by_name["mute"]["reason"]
    assert [step["name"] for step in by_name["web"]["steps"]] == ["clone", "boot", "guest tools"]
    assert by_name["web"]["ready_after_s"] >= by_name["db - one"]["ready_after_s"] + 0.3
    assert found["rto_s"] == by_name["web"]["ready_after_s"]
    assert "2 of 3 VMs came up" in page.read_text() and "<script" not in page.read_text()
    sites.plan(PLAN.replace('test_network = "isolated"', "").replace("timeout_s = 20", "tcp = 22, timeout_s = 20"))
    done = sites("test", "site")
    assert "all of them were ready" in done.out and "tcp 22 was not asked" in " ".join(done.out.split())
    shown = sites("report", "site", "--report", data, "--json").of("dr-test")
    assert [one["ok"] for one in shown][:2] == [True, False] and json.loads(data.read_text())["failed"] == 0
    assert "FAILED" in sites("report", "site").out


def test_what_a_killed_test_left_goes_at_the_next_start(sites: Sites) -> None:
    before = sites.things()
    sites.plan(PLAN.replace('vms = [{ tag = "tier1" }]', 'vms = ["mute"]'))
    process = start("dr", "test", "site", "-c", sites.path)
    wait_until(lambda: any(vm["power_state"] == "Running" for vm in sites.vms("DR test - mute")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = sites.vms("DR test - mute")
    isolated = {ref for ref, one in sites.other.model.records("network").items() if one["name_label"] == "isolated"}
    assert {sites.other.model.get("VIF", ref)["network"] for ref in left["VIFs"]} == isolated
    assert "xo:no-bak=DR test" in left["tags"] and keys.REPLICA not in left["other_config"]
    sites.plan(PLAN)
    sites("test", "site")
    assert sites.things() == before


def test_an_interrupted_test_leaves_nothing(sites: Sites) -> None:
    before = sites.things()
    sites.plan(PLAN.replace('vms = [{ tag = "tier1" }]', 'vms = ["mute"]'))
    process = start("dr", "test", "site", "-c", sites.path)
    wait_until(lambda: any(vm["power_state"] == "Running" for vm in sites.vms("DR test - mute")))
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130 and sites.things() == before


def test_a_failover_is_refused_while_originals_run_and_can_be_run_again(own: Sites) -> None:
    before = own.things()
    refused = own("failover", "site", "--yes", code=2)
    assert "db - one is Running in pool main" in refused.err and own.things() == before
    own.stop_main()
    assert "nothing was changed" in own("failover", "site").out and own.things() == before
    own("failover", "site", "--yes")
    for name in ("db - one", "web"):
        (vm,) = own.vms(name)
        assert vm["power_state"] == "Running" and not vm["blocked_operations"]
        assert not {"Continuous Replication", "HA disabled"} & set(vm["tags"])
        assert own.disks(own.other, name) == own.disks(own.main, name)
        source = own.main.model.get("VM", own.main.vm_named(name))
        assert own.macs(own.other, vm) == own.macs(own.main, source)
        assert ("auto_poweron" in vm["other_config"]) == (name == "db - one")
        assert not [key for key in vm["other_config"] if key.startswith(keys.CLAIM) or key == keys.RUN]
    after = own.things()
    own.other.call("VM.hard_shutdown", own.other.vm_named("web"))
    own("failover", "site", "--yes")
    shown = own("plan", "site", "--json").of("dr-plan-vm")
    assert [one["failed_over"]["power_state"] for one in shown] == ["Running", "Running"]
    assert own.things() == after and own.vms("web")[0]["power_state"] == "Running"
    records = {cls: own.other.model.records(cls) for cls in CLASSES}
    assert len(find_points(records)) == 3, "a restore point of a replica was taken"


def test_a_failover_goes_on_without_the_lost_pool_and_after_a_cut(own: Sites) -> None:
    first = find_points({cls: own.other.model.records(cls) for cls in CLASSES})[0].id
    old = own.disks(own.main, "web")
    own.main.write_disk(own.main.vdis_of(own.main.vm_named("web"))[0], 0, b"later" * 1000)
    assert xobackup("run", "-c", own.path).code == 0
    own.path.write_text(own.path.read_text().replace(own.main.url, "https://127.0.0.1:9"))
    own.plan(PLAN.replace("groups = [", 'groups = [{ name = "none", vms = ["ghost"] },'))
    done = own("failover", "site", "--yes", "--point", first, code=3)
    assert "ghost" in done.err and "pool main does not answer" in done.err
    assert own.disks(own.other, "web") == old, "the restore point asked for was not used"
    assert own.vms("db - one")[0]["power_state"] == "Running"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('target = "dr"', 'target = "dx"', "there is no target 'dx'"),
        ('rpo = "15m"', 'rpo = "soon"', "expected a time such as '15m'"),
        ('name = "rest"', 'name = "databases"', "two of them have the same name"),
        ('vms = ["web"]', "vms = []", "groups"),
        ("auto_start = false", "ready.tcp = 70000", "tcp"),
        ('tag = "tier1"', 'host = "h"', "host"),
    ],
)
def test_wrong_plans_are_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "xobackup.toml"
    places = '[pools.second]\nurl = "https://127.0.0.1:9"\npassword = "p"\n[targets.dr]\npool = "second"\nsr = "s"\n'
    path.write_text(places + PLAN)
    assert "dr" not in xobackup("config", "check", "-c", path).err
    assert old in PLAN
    path.write_text(places + PLAN.replace(old, new))
    assert told in xobackup("config", "check", "-c", path).err


def test_wrong_words(sites: Sites) -> None:
    assert "no plan 'x'" in sites("plan", "x", code=2).err
    assert "--point: expected latest or a time" in sites("failover", "site", "--point", "soon", code=2).err
    assert "--report: expected" in sites("test", "site", "--report", "x.pdf", code=2).err
    sites.plan(PLAN + PLAN.replace("[dr.site]", "[dr.other]"))
    assert "never tested" in sites("report", "other", code=2).err


def test_the_way_back_is_a_plan_in_the_other_direction(own: Sites) -> None:
    own.stop_main()
    own("failover", "site", "--yes")
    web = own.other.vdis_of(own.other.vm_named("web"))[0]
    home = own.main.model.get("SR", own.main.model.get("VDI", own.main.vdis_of(own.main.vm_named("web"))[0])["SR"])
    back = f"""
[targets.home]
pool = "main"
sr = "{home["uuid"]}"
[jobs.back]
pool = "second"
vms.include = [{{ name = "web" }}]
replicate_to = ["home"]
retention = 2
[dr.back]
target = "home"
groups = [{{ name = "all", vms = ["web"] }}]
"""
    own.path.write_text(own.path.read_text() + back)
    assert xobackup("run", "back", "-c", own.path).code == 0
    own.other.write_disk(web, 0, b"at the other site" * 1000)
    assert "web is Running in pool second" in own("failover", "back", "--yes", code=2).err
    own.other.call("VM.hard_shutdown", own.other.vm_named("web"))
    (done,) = xobackup("run", "back", "-c", own.path, "--json").of("report")
    assert done["vms"][0]["deltas"] == 1
    own("failover", "back", "--yes")
    (vm,) = [
        one
        for one in own.main.model.records("VM").values()
        if one["name_label"] == "web" and one["power_state"] == "Running"
    ]
    disk = own.main.model.get("VBD", vm["VBDs"][0])["VDI"]
    assert own.main.disk_sha256(disk) == own.other.disk_sha256(web)


def test_the_way_back_home(own: Sites) -> None:
    """Failed over, changed there, brought home by rounds while it runs, and one stop of each."""
    original = str(own.main.model.get("VM", own.main.vm_named("web"))["uuid"])
    own.stop_main()
    own("failover", "site", "--yes")
    (there,) = own.vms("web")
    ref = own.other.model.by_uuid("VM", there["uuid"])
    own.other.write_disk(own.other.vdis_of(ref)[0], 1 << 20, b"made at the other site")
    asked = own("failback", "site")
    assert "nothing was changed" in asked.out and "web" in asked.out and "main" in asked.out
    assert "the differences" in asked.out and "all of it" not in asked.out
    first = {one["vm"]: one for one in own("failback", "site", "--yes", "--json").of("round")}
    assert [one["fulls"] for one in first.values()] == [0, 0], "what is at home need not travel again"
    assert first[original]["read_bytes"] < 8 << 20
    assert there["power_state"] == "Running" and len(own.vms("web")) == 1
    own.other.write_disk(own.other.vdis_of(ref)[0], 2 << 20, b"and later")
    then = [own.other.disk_sha256(disk) for disk in own.other.vdis_of(ref)]
    done = own("failback", "site", "--yes", "--final", "--json")
    moved = {one["name"]: one for one in done.of("moved")}
    assert set(moved) == {"web", "db - one"} and all(not one["reason"] for one in moved.values())
    assert moved["web"]["rounds"][-1]["fulls"] == 0, "the last round is a delta"
    home = own.main.model.by_uuid("VM", moved["web"]["new_vm"])
    assert own.main.model.get("VM", home)["power_state"] == "Running"
    assert own.main.model.get("VM", home)["name_label"] == "web"
    assert [own.main.disk_sha256(disk) for disk in own.main.vdis_of(home)] == then
    assert own.other.model.get("VM", ref)["power_state"] == "Halted", "it runs at one place only"
    old = own.main.model.by_uuid("VM", original)
    kept = own.main.model.get("VM", old)
    assert (
        "before the failover" in kept["tags"] and kept["blocked_operations"]["start"] and kept["name_label"] == "web"
    )
    again = own("failback", "site", "--yes", "--final", "--json")
    assert {one["new_vm"] for one in again.of("moved")} == {one["new_vm"] for one in moved.values()}


def test_nobody_goes_home_to_an_original_that_runs(own: Sites) -> None:
    own("failback", "site", "--yes", "--final", code=1)
    own.stop_main()
    own("failover", "site", "--yes")
    own.main.call("VM.start", own.main.vm_named("web"), False, False)
    refused = own("failback", "site", "--yes", "--final", code=3)
    assert "web: its original runs at home" in refused.err and len(own.vms("web")) == 1
    assert own.main.model.get("VM", own.main.vm_named("web"))["power_state"] == "Running"


def test_a_vm_migrates_by_the_command_line(own: Sites) -> None:
    def migrate(*more: str, code: int = 0) -> Result:
        done = xobackup("migrate", "web", "--from", "main", "--to", "dr", *more, "-c", own.path)
        assert done.code == code, done.err or done.out
        return done

    source = own.main.vm_named("web")
    assert "nothing was done" in migrate().out
    assert "replicated" in migrate("--prepare", "--yes").out
    assert own.main.model.get("VM", source)["power_state"] == "Running" and own.vms("web") == []
    (moved,) = migrate("--yes", "--json").of("moved")
    (vm,) = own.vms("web")
    assert vm["uuid"] == moved["new_vm"] and vm["power_state"] == "Running" and moved["downtime_s"] > 0
    assert own.disks(own.other, "web") == own.disks(own.main, "web")
    assert own.main.model.get("VM", source)["power_state"] == "Halted"
    assert "no VM 'nobody'" in xobackup("migrate", "nobody", "--from", "main", "--to", "dr", "-c", own.path).err
    assert "no target" in xobackup("migrate", "web", "--from", "main", "--to", "x", "-c", own.path).err
