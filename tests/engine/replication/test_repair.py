"""A damaged backup is repaired from the disk of a replica's restore point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.engine.job import RemoteTarget
from xobackup.engine.repair import PoolSnapshots
from xobackup.simpool import SimPool
from xotest.lab import MIB, Lab
from xotest.two_pools import TARGET_POOL, TwoPools


@pytest.fixture
def fast(tmp_path: Path, lab: Lab) -> Iterator[TwoPools]:
    """The other pool offers NBD."""
    with SimPool.start(tmp_path / "fast", spec=replace(TARGET_POOL, nbd="nbd")) as other:
        yield TwoPools(lab, other)


def test_blocks_come_back_from_a_replica(fast: TwoPools) -> None:
    lab = fast.lab
    root = lab.on_disk()
    for number in range(2):
        lab.write(0, 0, bytes([number + 1]) * MIB)
        fast.run(remotes=(RemoteTarget(name="nas", url="lab:nas"),))
    repository, told = lab.repository(), list[str]()
    for path in sorted(root.rglob("*.vhd")):
        raw = bytearray(path.read_bytes())
        if len(raw) > 2 * MIB:  # it has a block, whose data lie there
            raw[-MIB] ^= 0xFF
        path.write_bytes(raw)
    damages = repository.damages(lab.vm_uuid)
    assert damages.blocks and not damages.hopeless
    source = PoolSnapshots("other", lambda: lab.world().connect(fast.address), told.append)
    try:
        with repository.lock(lab.vm_uuid) as directory:
            report = directory.repair(damages.blocks, [source])
    finally:
        source.close()
    assert not told and len(report.repaired) == len(damages.blocks)
    assert all(place.startswith("pool other: replica ") for _, place in report.repaired)
    assert repository.verify(lab.vm_uuid).problems == []
    lab.check()
