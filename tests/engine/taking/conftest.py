"""A pool with one running VM of one small disk, whose guest shuts down at once unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xotest.lab import MIB, Lab


def spec(**vm: Any) -> PoolSpec:
    """A pool with the VM ``guest``."""
    disks = (DiskSpec(name="system", size_bytes=4 * MIB, filled_bytes=2 * MIB),)
    return PoolSpec(vms=(VmSpec(**{"name": "guest", "disks": disks, "memory_bytes": 8 * MIB, **vm}),))


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    with ExitStack() as held:

        def make(**vm: Any) -> Lab:
            pool = held.enter_context(SimPool.start(tmp_path / "pool", spec=spec(**vm)))
            return Lab(tmp_path, pool)

        yield make


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()
