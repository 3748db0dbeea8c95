"""The naive reader gives back every disk of every repository Xen Orchestra wrote, interrupted merges included."""

from __future__ import annotations

import pytest

from xotest import golden
from xotest.xo_rules import DecryptedTree, chainable, disk_sha256, points

READABLE = [name for name in golden.NAMES if name != "encrypted"]


@pytest.mark.parametrize("name", READABLE)
def test_every_disk_has_its_digest(name):
    repository = golden.pristine(name)
    for point, disk in repository.disks():
        path = f"xo-vm-backups/{repository.vm}/{point}"
        assert disk_sha256(repository.root, path, disk.snapshot_uuid) == disk.sha256, (point, disk)


def test_every_disk_of_an_encrypted_repository_has_its_digest():
    repository = golden.pristine("encrypted")
    tree = DecryptedTree(repository.root, golden.ENCRYPTION_KEY)
    runs = zip(points(tree, repository.vm), repository.runs, strict=False)
    for path, run in runs:
        for disk in run.disks:
            assert disk_sha256(tree, path, disk.snapshot_uuid) == disk.sha256, path


@pytest.mark.parametrize("name", [n for n in READABLE if not n.startswith("interrupted")])
def test_xen_orchestra_would_go_on_with_deltas(name):
    repository = golden.pristine(name)
    last = repository.runs[-1].disks[0].snapshot_uuid
    live = "11111111-0000-4000-8000-000000000001"
    ask = (repository.root, repository.vm, repository.job, live)
    directory = "directory" in name
    assert chainable(*ask, last, directories=directory)
    assert not chainable(*ask, last, directories=not directory)
    assert not chainable(*ask, "22222222-0000-4000-8000-0000000000ff")
    assert not chainable(repository.root, repository.vm, repository.job, "another disk", last)
    assert chainable(*ask, last, child_name="20991231T235959Z.vhd")
    assert not chainable(*ask, last, child_name="20000101T000000Z.vhd")
    assert chainable(*ask, last, compression="gzip") is not directory
