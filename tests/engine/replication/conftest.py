"""Two pools: the lab's, and one to replicate to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.simpool import SimPool
from xotest.lab import Lab
from xotest.two_pools import TARGET_POOL, TwoPools


@pytest.fixture
def two(tmp_path: Path, lab: Lab) -> Iterator[TwoPools]:
    with SimPool.start(tmp_path / "other", spec=TARGET_POOL) as other:
        yield TwoPools(lab, other)
        assert not other.faults.unfired()
