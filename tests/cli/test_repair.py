"""``repair``: says what it would do, does it when asked, and never more than a digest proves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xotest.site import SMALL, Site, site_at


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Site]:
    """A site whose pool offers NBD."""
    with site_at(tmp_path, replace(SMALL, nbd="nbd")) as site:
        yield site


def test_a_block_comes_back_from_the_other_remote(copied: Site) -> None:
    shutil.copytree(copied.repository, copied.other)
    copied.configure(remotes='["nas", "other"]')
    assert "no damage found" in copied.xobackup("repair", "--remote", "nas", "--trust-days", "0").out
    copied.damage("db")
    copied.xobackup("verify", code=5)
    before = {path: path.read_bytes() for path in copied.vdi_paths("db")}
    told = copied.xobackup("repair", "--remote", "nas", code=5).out
    assert "would be written again from remote other: " in told and "touches " in told and "add --apply" in told
    assert {path: path.read_bytes() for path in copied.vdi_paths("db")} == before
    told = copied.xobackup("repair", "--remote", "nas", "--apply").out
    assert "repaired from remote other: " in told and "what was there before is in .xobackup/quarantine/" in told
    assert "no damage found" in copied.xobackup("verify").out
    assert "no damage found" in copied.xobackup("repair", "--remote", "nas", "--apply").out


def test_a_block_comes_back_from_a_snapshot_on_the_pool(fast: Site) -> None:
    fast.xobackup("run")
    fast.damage("web")
    result = fast.xobackup("repair", "--remote", "nas", "--vm", "web", "--trust-days", "0", "--json", "--apply")
    (block,) = result.of("block")
    assert block["state"] == "repaired" and block["from"].startswith("pool sim: snapshot ")
    assert "no damage found" in fast.xobackup("verify").out


def test_without_a_copy_it_says_so_and_touches_nothing(copied: Site) -> None:
    copied.damage("db")
    before = {path: path.read_bytes() for path in copied.repository.rglob("*.vhd")}
    told = copied.xobackup("repair", "--remote", "nas", "--trust-days", "0", "--apply", code=5)
    assert "nobody has a proven copy; left as it is" in told.out and "1 finding of damage left" in told.err
    assert "pool sim has no say: its disks cannot be read by NBD" in told.err
    assert {path: path.read_bytes() for path in copied.repository.rglob("*.vhd")} == before
    assert not (copied.repository / ".xobackup" / "quarantine").exists()


def test_a_source_that_cannot_be_asked_keeps_nobody_else(copied: Site) -> None:
    shutil.copytree(copied.repository, copied.other)
    copied.configure(remotes='["nas", "other"]')
    (copied.other / "encryption.json").write_text('{"algorithm":"aes-256-gcm"}')
    copied.damage("db")
    told = copied.xobackup("repair", "--remote", "nas", "--trust-days", "0", code=5)
    assert (
        "remote other has no say: " in told.err and "needs its key" in told.err and "no proven copy" not in told.err
    )
    assert (
        "there is no remote or pool 'nowhere'"
        in copied.xobackup("repair", "-r", "nas", "--from", "nowhere", code=2).err
    )
    told = copied.xobackup("repair", "--remote", "nas", "--trust-days", "0", "--from", "sim", code=5)
    assert "remote other" not in told.err and "pool sim has no say" in told.err


def test_an_image_comes_back_from_the_other_remote(site: Site) -> None:
    site.other.mkdir()
    site.configure('mode = "full"', remotes='["nas", "other"]')
    site.xobackup("run")
    (image,) = site.repository.glob(f"xo-vm-backups/{site.uuid('db')}/*.xva")
    good = image.read_bytes()
    image.write_bytes(good[: len(good) // 2])
    told = site.xobackup("repair", "--remote", "nas", "--vm", "db", code=5).out
    assert "it was cut off" in told and "would be written again from remote other: " in told
    told = site.xobackup("repair", "--remote", "nas", "--vm", "db", "--apply").out
    assert "repaired from remote other: " in told and image.read_bytes() == good
    assert "no damage found" in site.xobackup("verify").out
