"""Full backups against the simulated pool: whole or not at all, on every remote that can take them."""

from __future__ import annotations

import hashlib

import pytest

from xobackup.repository.images.checksum import unpack_checksum
from xotest.lab import Lab, only


@pytest.fixture
def full(lab: Lab) -> Lab:
    lab.with_settings(mode="full", retention=2)
    return lab


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_vm_becomes_an_image_with_its_checksum(full: Lab, compression: str) -> None:
    full.with_settings(compression=compression)
    vm = only(full.run())
    (point,) = full.points()
    remote = full.remotes["nas"]
    raw = remote.get(f"xo-vm-backups/{full.vm_uuid}/{point.xva}")
    assert point.mode == "full" and point.size == len(raw) == vm.read_bytes
    assert (
        unpack_checksum(remote.get(f"xo-vm-backups/{full.vm_uuid}/{point.xva}.checksum")).digest
        == hashlib.md5(raw).hexdigest()
    )
    full.check()
    full.assert_tidy()
    assert full.snapshots() == []
