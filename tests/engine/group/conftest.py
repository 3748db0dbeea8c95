"""A pool with an application on three VMs and one VM beside it, and a lab that backs them up as a group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.engine.job import Consistent, Selector
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xotest.hook_log import HookLog
from xotest.lab import MIB, Lab


def small(name: str, *tags: str) -> VmSpec:
    return VmSpec(name=name, tags=tags, disks=(DiskSpec(name=name, size_bytes=2 * MIB, filled_bytes=MIB),))


ERP = PoolSpec(vms=(small("app", "erp"), small("db", "erp"), small("guest", "erp"), small("other")))


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "pool", spec=ERP) as started:
        yield started
        assert not started.faults.unfired()


class GroupLab(Lab):
    """All VMs are chosen; those with the tag are the group."""

    def named(self, name: str) -> str:
        """Its uuid."""
        return str(self.pool.model.get("VM", self.pool.vm_named(name))["uuid"])

    def points_of(self, name: str):
        return list(self.repository().points(self.named(name)).points)

    def snapshots_of(self, name: str):
        return self.snapshots(self.pool.vm_named(name))

    def calls(self, method: str) -> list[int]:
        """Where in the pool's journal it was called."""
        return [at for at, entry in enumerate(self.pool.journal.entries()) if entry.method.endswith(method)]


@pytest.fixture
def lab(tmp_path: Path, pool: SimPool) -> GroupLab:
    return GroupLab(tmp_path, pool, selector=Selector(), consistent=Consistent(tag="erp"))


@pytest.fixture
def log(tmp_path: Path) -> HookLog:
    return HookLog(tmp_path)
