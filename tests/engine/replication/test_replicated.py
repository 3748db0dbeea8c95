"""What a replica takes over from its VM, and where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.engine import keys
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.replication.listing import list_replicas
from xobackup.engine.replication.marks import at_rest
from xobackup.engine.replication.site import open_site
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xobackup.xapi.session import Session
from xotest.lab import MIB, Lab, only
from xotest.two_pools import TARGET_POOL, TwoPools

NETWORKS = ("LAN", "DMZ", "Backup")


@pytest.fixture
def rich(tmp_path: Path) -> Iterator[TwoPools]:
    """A VM with all that a VM may have, and a pool with other networks."""
    vm = VmSpec(
        name="guest",
        disks=(DiskSpec(name="system", size_bytes=6 * MIB, filled_bytes=MIB),),
        networks=NETWORKS,
        tags=("erp",),
        cd_drive=True,
        uefi=True,
        vtpm=True,
    )
    there = replace(TARGET_POOL, networks=("DMZ", "LAN of the other site", "Backup"))
    with (
        SimPool.start(tmp_path / "pool", spec=PoolSpec(vms=(vm,), networks=NETWORKS)) as pool,
        SimPool.start(tmp_path / "other", spec=there, seed=7) as other,
    ):
        lab = Lab(tmp_path, pool)
        yield TwoPools(lab, other, target={"networks": {"LAN": "LAN of the other site", "Backup": None}})


def test_what_is_carried_over(rich: TwoPools) -> None:
    lab, pool = rich.lab, rich.lab.pool
    rich.run()
    pool.call("VM.hard_shutdown", lab.vm)
    pool.call("VM.set_memory_limits", lab.vm, 0, 2 << 30, 2 << 30, 2 << 30)
    pool.call("VM.set_VCPUs_max", lab.vm, 4)
    pool.call("VM.set_VCPUs_at_startup", lab.vm, 4)
    pool.call("VM.set_tags", lab.vm, ["erp", "new"])
    pool.call("VM.set_ha_restart_priority", lab.vm, "restart")
    assert only(rich.run()).warnings == ()
    rich.check()
    rich.assert_tidy()
    source = pool.model.get("VM", lab.vm)
    ((ref, vm),) = rich.replicas().items()
    for point in (ref, rich.points()[0].ref):
        found = rich.other.model.get("VM", point)
        for name in ("memory_static_max", "VCPUs_max", "VCPUs_at_startup", "NVRAM", "platform", "HVM_boot_params"):
            assert found[name] == source[name], name
        vtpm = rich.other.call("VTPM.get_contents", found["VTPMs"][0])
        assert vtpm == pool.call("VTPM.get_contents", source["VTPMs"][0]) and vtpm
    assert vm["tags"] == ["erp", "new", "Continuous Replication", "HA disabled"] and vm["ha_restart_priority"] == ""
    nics = [rich.other.model.get("VIF", one) for one in vm["VIFs"]]
    names = {rich.other.model.get("network", nic["network"])["name_label"]: nic["MAC"] for nic in nics}
    macs = {pool.model.get("VIF", one)["device"]: pool.model.get("VIF", one)["MAC"] for one in source["VIFs"]}
    assert names == {"LAN of the other site": macs["0"], "DMZ": macs["1"]}
    assert [rich.other.model.get("VBD", one)["type"] for one in vm["VBDs"]].count("CD") == 1


def test_new_addresses_stay_the_same_ones(rich: TwoPools) -> None:
    rich.target["new_macs"] = True
    rich.run()
    ((ref, _),) = rich.replicas().items()

    def macs() -> list[str]:
        return sorted(rich.other.model.get("VIF", one)["MAC"] for one in rich.other.model.get("VM", ref)["VIFs"])

    first, source = macs(), rich.lab.pool.model.records("VIF").values()
    assert not {vif["MAC"] for vif in source} & set(first)
    rich.run()
    assert macs() == first


def test_several_srs(two: TwoPools) -> None:
    ssd, hdd = two.sr_target("dr:ssd"), two.sr_target("dr:hdd", srs=("dr hdd",))
    for _ in range(2):
        two.lab.write(0, 0, b"x" * 5000)
        vm = only(two.run(targets=(ssd, hdd)))
        assert set(vm.points) == {"dr:ssd", "dr:hdd"} and len(vm.ways) == 2
        two.check()
        two.assert_tidy()
    assert len(two.replicas()) == 2
    with Session.connect(two.address, clock=two.lab.clock) as session:
        found = list_replicas(
            open_site(replace(ssd, srs=("dr ssd", "dr hdd")), session, ""), now_s=two.lab.clock.now_s()
        )
    assert {(one.sr, len(one.points), one.state) for one in found} == {("dr ssd", 2, "ready"), ("dr hdd", 2, "ready")}


def test_a_distributed_replica_stays_where_it_is(two: TwoPools) -> None:
    two.other.fill_sr(two.other.sr_named("dr ssd"), free_bytes=40 * MIB)
    both = (two.sr_target(srs=("dr ssd", "dr hdd")),)
    two.run(targets=both)
    two.other.fill_sr(two.other.sr_named("dr hdd"), free_bytes=30 * MIB)
    two.lab.write(0, 0, b"x" * 5000)
    assert only(two.run(targets=both)).deltas == 2
    hdd = two.other.model.get("SR", two.other.sr_named("dr hdd"))["uuid"]
    assert {point.sr_uuid for point in two.points()} == {hdd}
    two.check()


def test_two_jobs_to_one_sr_have_a_replica_each(two: TwoPools) -> None:
    for _ in range(2):
        for name in ("hourly", "nightly"):
            two.lab.write(0, 0, name.encode() * 1000)
            two.run(name=name)
    assert len(two.replicas()) == 2 and len({point.job_id for point in two.points()}) == 2
    assert {len([one for one in two.points() if one.job_id == job]) for job in {p.job_id for p in two.points()}} == {
        2
    }
    two.check()
    two.assert_tidy()


def test_another_run_of_the_job_is_waited_for(two: TwoPools) -> None:
    two.run()
    two.lab.claim("someone-else")
    report = two.run(expect="locked")
    assert "another run of the job" in only(report).reason
    two.check()


def test_a_replica_by_xen_orchestra_is_continued(two: TwoPools) -> None:
    """Its restore points are ours without our own keys; the replica then has only the block of its start."""
    two.run()
    (point,) = two.points()
    ours = (keys.POINT, keys.REPLICA, keys.RUN, keys.LIVE)
    for cls, refs in (("VM", [point.ref, *two.replicas()]), ("VDI", [disk.ref for disk in point.disks])):
        for ref in refs:
            for key in ours:
                two.other.call(f"{cls}.remove_from_other_config", ref, key)
    assert two.points()[0].by_xo
    two.lab.write(0, 0, b"by xo" * 100)
    vm = only(two.run())
    assert vm.deltas == 2 and vm.warnings == ()
    assert [one.by_xo for one in two.points()] == [False, True]
    newest = two.points()[0]
    assert {disk.content_key for disk in newest.disks} == {
        two.lab.pool.model.get("VDI", two.lab.pool.model.get("VBD", vbd)["VDI"])["uuid"]
        for vbd in two.lab.snapshots()[0]["VBDs"]
    }


def test_marks_at_rest_are_those_that_no_copy_is_mistaken_by() -> None:
    config = {"a": "b", keys.JOB: "j", keys.CONTENT_KEY: "c", keys.COPY_OF: "d", keys.RUN: "r", keys.POINT: "p"}
    assert at_rest(config, sr_uuid="s", replica="x") == {"a": "b", keys.SR: "s", keys.REPLICA: "x"}


def test_a_clone_of_a_restore_point_is_backed_up_like_any_vm(two: TwoPools) -> None:
    """What was failed over to has a chain of its own; it is not taken for a copy for ever."""
    two.run()
    clone = two.other.call("VM.clone", two.points()[0].ref, "failed over")
    two.other.call("VM.set_is_a_template", clone, False)
    two.other.call("VM.start", clone, False, False)
    two.lab.pool, two.lab.selector = two.other, Selector(include=(VmRule(name="failed over"),))
    for deltas in (0, 2):
        vm = only(two.lab.run(name="after"))
        assert (vm.fulls, vm.deltas) == (2 - deltas, deltas)
