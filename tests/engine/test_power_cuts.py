"""The power goes off at change after change that a run makes to its repository; nothing published is ever lost.

The pool lives on while the repository's machine dies, so the pool's side carries over from cut to cut as it does
in life: each cut run leaves its snapshots, the next run cleans them and goes on. What survives of the repository is
drawn by the memory remote: unsynced writes may be lost, torn or reordered. Every other change is taken, odd ones for
files, even ones for directories; ``XOTEST_SWEEP=full`` takes them all.
"""

import os
import random
from collections import Counter
from dataclasses import replace

import pytest

from remotes.faults import Cut, Faults, Moment, PowerCut
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from xobackup.engine.run import run_job
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xobackup.simpool.workload import Profile
from xotest.lab import MIB, Lab, only

ONE_DISK = PoolSpec(
    vms=(VmSpec(name="guest", disks=(DiskSpec(name="system", size_bytes=6 * MIB, filled_bytes=2 * MIB),)),)
)
PROFILE = Profile(small_writes=2, small_max_bytes=4096, sequential_every=1000)


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["files", "directories", "by nbd, data purged"])
def test_a_run_survives_power_cuts(tmp_path, stored: str, seed: int = 20261121) -> None:
    by_nbd = stored == "by nbd, data purged"
    with SimPool.start(tmp_path / "pool", spec=replace(ONE_DISK, nbd="nbd" if by_nbd else "")) as pool:
        lab = Lab(tmp_path, pool, vhd_directory=stored == "directories")
        lab.with_settings(retention=2, purge_snapshot_data=by_nbd)
        workload = pool.workload(lab.vm, seed=2, profile=PROFILE)
        for _ in range(3):
            workload.step()
            lab.run()
        lab.check()
        kinds: Counter[str] = Counter()
        full = os.environ.get("XOTEST_SWEEP") == "full"
        for turn, number in enumerate(range(1 + lab.vhd_directory, 1000, 1 if full else 3 if by_nbd else 2)):
            workload.step()
            faults = cut_run(lab, number, Moment.DURING if turn % 2 else Moment.BEFORE, seed)
            if faults is None:
                break
            kinds[str(faults.cut_operation.kind)] += 1
            lab.check(finished=False)  # what is listed right after the cut is whole
            workload.step()
            vm = only(lab.run())
            assert vm.deltas == 1, f"cut at change {number} ({faults.cut_operation}) led to a full"
            assert vm.vias == ("cbt-nbd" if by_nbd else "stream-delta",)
            lab.check()
            lab.assert_tidy()
            assert len(lab.points()) == 2
        assert sum(kinds.values()) > (8 if by_nbd else 12) and {"rename", "put", "delete"} <= set(kinds), kinds


def cut_run(lab: Lab, number: int, moment: Moment, seed: int) -> Faults | None:
    """A run whose repository dies at change ``number``; ``None`` when the run ended before it."""
    remote = lab.remotes["nas"]
    assert isinstance(remote, MemoryRemote)
    rng = random.Random(f"{seed} {number}")
    faults = Faults(cut=Cut(at=number, moment=moment), rng=rng)
    lab.remotes["nas"] = FaultyRemote(remote, faults)
    lab.clock.advance(3600)
    lab.pool.gc()
    images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
    known = {point.id for point in Lab.points(without_faults(lab, remote))}
    try:
        run_job(lab.job(), lab.world())
    except PowerCut:
        assert faults.cut_operation
    survivor = remote.survivor(rng)
    lab.remotes["nas"] = survivor if faults.cut_operation else remote
    for point in lab.points():
        if point.id not in known:
            lab.expected["nas", point.id] = images
    lab.clock.advance(60)  # the dead holder's lock is stale by now
    return faults if faults.cut_operation else None


def without_faults(lab: Lab, remote: MemoryRemote) -> Lab:
    from dataclasses import replace

    return replace(lab, remotes={"nas": remote})
