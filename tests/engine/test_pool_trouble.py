"""A toolstack that restarts, a master that changes, a host that dies, in every phase of a run; and faults by seed.

Whatever happens: a run ends by itself and says how each VM fared, nothing that was published is lost, and when the
trouble is over one run is all green and leaves the pool as a run does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xobackup.engine.errors import Outcome
from xobackup.engine.report import RunReport
from xobackup.engine.run import run_job
from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.lab import MIB, Lab, only
from xotest.pool_state import state_of

SPEC = PoolSpec(
    hosts=(HostSpec(name="host-1"), HostSpec(name="host-2")),
    srs=(SrSpec(name="shared", type="nfs"),),
    vms=(VmSpec(name="guest", disks=(DiskSpec(name="system", size_bytes=4 * MIB, filled_bytes=2 * MIB),)),),
)
PHASES = {
    "prepare": ("VDI.get_all_records", 0),
    "snapshot": ("Async.VM.snapshot", 0),
    "transfer": ("GET /export_raw_vdi", 0),
    "publish": ("PIF.get_all_records", 0),
    "let go": ("Async.VDI.destroy", 0),
}
"""A call that each phase begins with, more or less."""
SEEDS = range(40) if os.environ.get("XOTEST_SWEEP") == "full" else range(3)
ROUNDS = 5


def restart(pool: SimPool) -> None:
    pool.restart_toolstack()


def change_master(pool: SimPool) -> None:
    """Session and all; the old master then says where the new one is."""
    other = next(server for server in pool.servers if server.host != pool.toolstack.master)
    pool.call("pool.designate_new_master", other.host)


def lose_master(pool: SimPool) -> None:
    """Its power fails; nobody takes over until it is back."""
    master = next(server for server in pool.servers if server.host == pool.toolstack.master)
    master.go_down()


TROUBLES: dict[str, Callable[[SimPool], None]] = {
    "restart": restart,
    "another master": change_master,
    "master down": lose_master,
}


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SPEC) as started:
        yield started
        assert not started.faults.unfired()


@pytest.fixture
def lab(tmp_path: Path, pool: SimPool) -> Lab:
    made = Lab(tmp_path, pool)
    made.with_settings(retention=2)
    made.run()
    made.run()
    return made


def run(lab: Lab) -> RunReport:
    """A run that may end as it likes, but ends, with a reason for whatever failed."""
    lab.clock.advance(3600)
    lab.pool.gc()
    images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
    known = {point.id for point in lab.points()}
    report = run_job(lab.job(), lab.world())
    for point in lab.points():
        if point.id not in known:
            lab.expected["nas", point.id] = images
    for vm in report.vms:
        assert vm.outcome is Outcome.OK or vm.reason, report
    assert report.vms or report.problems
    return report


def is_all_green(lab: Lab, before: dict[str, object]) -> None:
    lab.write(0, 0, b"after the trouble")
    vm = only(lab.run())
    assert vm.outcome is Outcome.OK and vm.deltas == 1, "a bad pool is no reason for a full"
    lab.check()
    lab.assert_tidy()
    assert state_of(lab.pool) == before


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("phase", PHASES)
def test_a_run_meets_it_in_this_phase(lab: Lab, pool: SimPool, phase: str, trouble: str) -> None:
    before = state_of(pool)
    method, skip = PHASES[phase]
    lab.write(0, 0, b"changed")
    pool.faults.act_at(method, lambda: TROUBLES[trouble](pool), what=trouble, skip=skip)
    run(lab)
    assert len(lab.points()) >= 2
    lab.check(finished=False)
    for server in pool.servers:
        server.come_back()
    is_all_green(lab, before)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_faults_by_seed_never_cost_a_good_point(lab: Lab, pool: SimPool, seed: int) -> None:
    before = state_of(pool)
    lab.with_settings(retries=seed % 2)
    pool.faults.randomly(seed, rate=0.02)
    ok = 0
    for number in range(ROUNDS):
        lab.write(0, number * 4096, bytes([number]) * 600)
        ok += run(lab).outcome is Outcome.OK
        assert lab.points(), "the last good point is always there"
        lab.check(finished=False)
    pool.faults.clear()
    lab.with_settings(retries=0)
    is_all_green(lab, before)
