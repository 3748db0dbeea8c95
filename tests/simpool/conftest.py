"""Pools and clients for the tests of the simulated pool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xotest.simclient import SimClient

MIB = 1 << 20


@pytest.fixture
def spec() -> PoolSpec:
    """One running VM with two small disks, and a halted one."""
    disks = (
        DiskSpec(name="system", size_bytes=8 * MIB, filled_bytes=3 * MIB),
        DiskSpec(name="data", size_bytes=12 * MIB),
    )
    return PoolSpec(
        vms=(
            VmSpec(name="guest", disks=disks, tags=("nightly",), cd_drive=True),
            VmSpec(name="idle", disks=(DiskSpec(name="idle", size_bytes=4 * MIB),), power_state="Halted"),
            VmSpec(name="template", disks=(), networks=(), power_state="Halted", template=True),
        )
    )


@pytest.fixture
def pool(tmp_path: Path, spec: PoolSpec) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=spec) as started:
        yield started


@pytest.fixture
def client(pool: SimPool) -> Iterator[SimClient]:
    with SimClient(pool) as connected:
        yield connected
