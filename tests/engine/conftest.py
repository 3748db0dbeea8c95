"""A pool with one small running VM, and a lab around it; a second pool to replicate to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.simpool import SimPool
from xotest.lab import SMALL, Lab
from xotest.two_pools import TARGET_POOL, TwoPools


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as started:
        yield started
        assert not started.faults.unfired()


@pytest.fixture
def lab(tmp_path: Path, pool: SimPool) -> Lab:
    return Lab(tmp_path, pool)


@pytest.fixture
def two(tmp_path: Path, lab: Lab) -> Iterator[TwoPools]:
    with SimPool.start(tmp_path / "other", spec=TARGET_POOL, seed=7) as other:
        yield TwoPools(lab, other)
        assert not other.faults.unfired()
