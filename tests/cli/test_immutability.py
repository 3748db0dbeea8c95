"""``xobackup immutability``: on a real file system, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xotest.mounts import loop
from xotest.site import Site, xobackup

VM = "aaaaaaaa-0000-4000-8000-000000000001"


@pytest.fixture
def disk() -> Iterator[Path]:
    with loop(20 << 20) as mounted:
        yield mounted.path


def test_flags_are_set_shown_first_and_lifted_when_it_is_over(disk: Path) -> None:
    new, old = (disk / f"xo-vm-backups/{VM}/{stamp}.json" for stamp in ("20990101T000000Z", "20200101T000000Z"))
    new.parent.mkdir(parents=True)
    lineage = new.parent / "vdis/job/disk"
    (lineage / "data/20200101T000000Z.vhd/blocks/0").mkdir(parents=True)
    block = lineage / "data/20200101T000000Z.vhd/blocks/0/7"
    for each in (new, old, block):
        each.write_bytes(b"x")
    forever = ("--days", "100000")
    dry = xobackup("immutability", "apply", disk, *forever, "--dry-run", "--json")
    assert (
        dry.code == 0 and len(dry.of("immutability")[0]["frozen"]) == 2 and not (disk / "immutability.json").exists()
    )
    done = xobackup("immutability", "apply", disk, *forever)
    assert done.code == 0 and "2 names frozen, 0 names lifted" in done.out
    assert "days ahead: is the clock right?" in done.err
    for each in (old, block):
        with pytest.raises(PermissionError):
            each.write_bytes(b"y")
    again = xobackup("immutability", "apply", disk, "--days", "1")
    assert "0 names frozen, 2 names lifted" in again.out
    block.write_bytes(b"y")
    old.unlink()


def test_links_lead_nowhere_and_keep_nothing_from_being_frozen(disk: Path, tmp_path: Path) -> None:
    root = disk / f"xo-vm-backups/{VM}"
    data = root / "vdis/job/disk/data"
    data.mkdir(parents=True)
    outside = disk / "outside"
    outside.mkdir()
    (outside / "header").write_bytes(b"precious")
    (data / "20200101T000000Z.vhd").symlink_to(outside)
    for stamp in ("20200101T000000Z", "20200102T000000Z"):
        (root / f"{stamp}.json").write_bytes(b"x")
    (root / "20200103T000000Z.json").symlink_to(outside / "header")
    result = xobackup("immutability", "apply", disk, "--days", "100000")
    assert result.code == 3 and "symbolic link" in result.err
    (outside / "header").write_bytes(b"free")
    with pytest.raises(PermissionError):
        (root / "20200102T000000Z.json").write_bytes(b"y")


def test_what_makes_no_sense_is_refused(site: Site, disk: Path) -> None:
    unknown = xobackup("immutability", "apply", disk)
    assert unknown.code == 2 and "--days" in unknown.err
    bucket = xobackup("immutability", "apply", "s3+http://K:S@127.0.0.1:9/bucket", "--days", "3")
    assert bucket.code == 6
    site.configure(replace=("[jobs.nightly]", 'lock = { mode = "compliance", days = 3 }\n[jobs.nightly]'))
    wrong = xobackup("immutability", "apply", "nas", "-c", site.config)
    assert wrong.code == 2 and "which only buckets have" in wrong.err
    site.configure(replace=("[jobs.nightly]", 'lock = { mode = "immutable", days = 3 }\n[jobs.nightly]'))
    site.xobackup("immutability", "apply", "nas", "--dry-run")
