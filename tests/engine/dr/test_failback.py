"""The way home: what survives there is not transferred again, and what arrives is what ran at the other site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from remotes.faults import PowerCut
from xobackup.engine import keys
from xobackup.engine.dr.failback import Homeward, homeward
from xobackup.engine.dr.failover import fail_over, failed_over
from xobackup.engine.dr.home import turned_round
from xobackup.engine.dr.look import look
from xobackup.engine.dr.plan import make_plan
from xobackup.engine.dr.spec import Group, Plan, Readiness
from xobackup.engine.job import PoolTarget, VmRule
from xobackup.engine.leftovers.clean import recover
from xobackup.engine.move.move import replicate
from xobackup.engine.move.request import Round
from xobackup.simpool import SimPool, SrSpec
from xobackup.xapi.session import Session
from xotest.dying import Death, dying_session, kept
from xotest.lab import SMALL
from xotest.two_pools import TwoPools


@dataclass(frozen=True, slots=True)
class Away:
    """The lab's VM, failed over to the other pool. ``over``: the VM there."""

    two: TwoPools
    plan: Plan
    over: str

    @contextmanager
    def both(self) -> Iterator[tuple[Session, Session]]:
        """Sessions: at home, and there."""
        clock = self.two.lab.clock
        with (
            closing(Session.connect(self.two.lab.address, clock=clock)) as here,
            closing(Session.connect(self.two.address, clock=clock)) as there,
        ):
            yield here, there

    def homeward(self) -> Homeward:
        with self.both() as (here, there):
            seen = look(self.two.lab.world(), there, self.plan, ())
            planning = make_plan(self.plan, seen, now_s=self.two.lab.clock.now_s(), job_names={})
            home = PoolTarget(name="lab", address=self.two.lab.address)
            (one,) = homeward(self.plan, planning, seen.records, {"lab": (home, here)}, {})
        return one

    def round(self) -> Round:
        request = self.homeward().request
        assert request is not None
        self.two.lab.clock.advance(60)
        return replicate(self.two.lab.world(), request)

    def write(self, disk: int, offset: int, data: bytes) -> None:
        self.two.other.write_disk(self.two.other.vdis_of(self.over)[disk], offset, data)

    def disks(self) -> list[str]:
        return [self.two.other.disk_sha256(ref) for ref in self.two.other.vdis_of(self.over)]

    def come_home(self) -> list[tuple[str, str]]:
        """sha256 and SR of the disks of what was made at home."""
        pool = self.two.lab.pool
        (ref,) = [
            ref
            for ref, vm in pool.model.records("VM").items()
            if keys.REPLICA in vm["other_config"] and not vm["is_a_snapshot"]
        ]
        return [(pool.disk_sha256(vdi), pool.model.get("VDI", vdi)["SR"]) for vdi in pool.vdis_of(ref)]

    def kept_snapshot(self, disk: int) -> str:
        """The snapshot at home that the failed over disk continues (reference)."""
        vdi = self.two.other.model.get("VDI", self.two.other.vdis_of(self.over)[disk])
        return self.two.lab.pool.model.by_uuid("VDI", vdi["other_config"][keys.KIN])


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    """Home, with a second SR."""
    spec = replace(SMALL, srs=(*SMALL.srs, SrSpec(name="second")))
    with SimPool.start(tmp_path / "pool", spec=spec) as started:
        yield started


@pytest.fixture
def away(two: TwoPools) -> Away:
    """Replicated twice, written to at home after that (which is lost), failed over, written to there."""
    two.run()
    two.lab.write(0, 1 << 20, b"replicated")
    two.run()
    two.lab.write(0, 3 << 20, b"never replicated")
    two.lab.pool.call("VM.hard_shutdown", two.lab.vm)
    group = Group(name="g", vms=(VmRule(name="guest"),), ready=Readiness(tools=False))
    plan = Plan(name="p", target=two.sr_target(), groups=(group,))
    world = two.lab.world()
    with closing(Session.connect(two.address, clock=two.lab.clock)) as there:
        seen = look(world, there, plan, ())
        planning = make_plan(plan, seen, now_s=two.lab.clock.now_s(), job_names={})
        fail_over(world, there, plan, planning, seen)
    (over,) = failed_over(two.other.model.records("VM"), "p").values()
    found = Away(two, plan, over.ref)
    found.write(0, 5 << 20, b"made there")
    found.write(1, 1 << 20, b"made there too")
    return found


def test_only_what_was_written_since_travels(away: Away) -> None:
    original = [away.two.lab.pool.disk_sha256(ref) for ref in away.two.lab.pool.vdis_of(away.two.lab.vm)]
    assert away.homeward().first == "the differences"
    first = away.round()
    assert first.fulls == 0 and first.read_bytes <= 4 << 21
    assert [sha for sha, _ in away.come_home()] == away.disks()
    away.write(0, 6 << 20, b"while it goes on")
    second = away.round()
    assert second.fulls == 0 and [sha for sha, _ in away.come_home()] == away.disks()
    assert [away.two.lab.pool.disk_sha256(ref) for ref in away.two.lab.pool.vdis_of(away.two.lab.vm)] == original
    for ref in away.two.lab.pool.vdis_of(away.two.lab.vm):
        assert keys.KIN not in away.two.lab.pool.model.get("VDI", ref)["other_config"]


def test_each_disk_goes_where_its_original_is(away: Away) -> None:
    pool = away.two.lab.pool
    ref = pool.vdis_of(away.two.lab.vm)[1]
    srs = [pool.model.get("VDI", one)["SR"] for one in pool.vdis_of(away.two.lab.vm)]
    other = pool.sr_named("second")
    (vbd,) = pool.model.get("VDI", ref)["VBDs"]
    moved = str(pool.call("VDI.copy", ref, other))
    device = pool.model.get("VBD", vbd)
    pool.call("VBD.destroy", vbd)
    pool.call("VBD.create", {**device, "VDI": moved, "VM": away.two.lab.vm})
    done = away.round()
    assert done.fulls == 1, "its snapshot is on an SR that is not home any more"
    assert away.come_home() == list(zip(away.disks(), [srs[0], other], strict=True))


def test_a_disk_that_grew_there_grows_here(away: Away) -> None:
    ref = away.two.other.vdis_of(away.over)[0]
    away.two.other.call("VM.hard_shutdown", away.over)
    size = away.two.other.model.get("VDI", ref)["virtual_size"] + (8 << 20)
    away.two.other.call("VDI.resize", ref, size)
    away.two.other.write_disk(ref, size - 4096, b"at its end", force=True)
    assert away.round().fulls == 0 and [sha for sha, _ in away.come_home()] == away.disks()


@pytest.mark.parametrize("trouble", ["gone", "used"])
def test_what_does_not_survive_for_certain_is_transferred(away: Away, trouble: str) -> None:
    pool, snapshot = away.two.lab.pool, away.kept_snapshot(0)
    if trouble == "gone":
        for vbd in pool.model.get("VDI", snapshot)["VBDs"]:
            pool.call("VBD.destroy", vbd)
        pool.call("VDI.destroy", snapshot)
    else:
        record: dict[str, Any] = {
            "VM": away.two.lab.vm, "VDI": snapshot, "userdevice": "9", "bootable": False, "mode": "RW",
            "type": "Disk", "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        }  # fmt: skip
        pool.call("VBD.create", record)
        pool.write_disk(snapshot, 0, b"somebody wrote to it", force=True)
    told = away.homeward().first
    assert told.startswith("all of it: ") and ("not at home any more" in told or "may have written" in told)
    done = away.round()
    assert done.fulls == 1 and [sha for sha, _ in away.come_home()] == away.disks()


@pytest.mark.parametrize("after", ["VDI.set_name_label", "Async.VM.snapshot"])
def test_a_round_that_dies_leaves_home_as_it_was(away: Away, after: str) -> None:
    pool, lab = away.two.lab.pool, away.two.lab
    before = {ref for ref, vdi in pool.model.records("VDI").items() if vdi["managed"]}
    request = away.homeward().request
    assert request is not None
    death = Death(1, since=after)
    world = lab.world()
    home = lab.address

    def connect(address: Any) -> Session:
        return dying_session(lab, address, death) if address == home else Session.connect(address, clock=lab.clock)

    with kept(lab.directory / "state" / "active", death), pytest.raises(PowerCut):
        replicate(replace(world, connect=connect), request)
    assert death.dead
    for address in (home, away.two.address):
        with closing(Session.connect(address, clock=lab.clock)) as session:
            recover(lab.world(), session, next(iter(session.records("pool").values()))["uuid"])
    assert {ref for ref, vdi in pool.model.records("VDI").items() if vdi["managed"]} == before
    assert away.round().fulls == 0 and [sha for sha, _ in away.come_home()] == away.disks()


def test_networks_are_turned_round_as_far_as_they_can_be() -> None:
    assert turned_round({"LAN": "LAN lyon", "a": "both", "b": "both", "vlan:12": "V", "none": None}) == {
        "LAN lyon": "LAN"
    }
