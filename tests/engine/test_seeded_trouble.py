"""A pool where anything may go wrong, by seed: whatever a run makes of it, what it published is right."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.simpool import SimPool
from xotest.lab import SMALL, Lab


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=replace(SMALL, nbd="nbd")) as started:
        yield started


@pytest.mark.parametrize("seed", range(2))
def test_runs_in_trouble_publish_only_what_is_right_and_a_quiet_one_tidies_up(
    tmp_path: Path, pool: SimPool, seed: int
) -> None:
    lab = Lab(tmp_path, pool)
    lab.with_settings(retention=2, retries=4)
    guest = pool.workload(lab.vm, seed=seed)
    happened: list[str] = []
    for run in range(3):
        guest.step()
        pool.faults.randomly(seed * 100 + run, rate=0.02, restart=pool.restart_toolstack)
        outcome = lab.run(expect=None).outcome
        happened += pool.faults.by_chance
        assert pool.faults.by_chance or outcome == "ok"
        pool.faults.clear()
        lab.check(finished=False)
    assert happened
    guest.step()
    lab.run()
    lab.check()
    lab.assert_tidy()
