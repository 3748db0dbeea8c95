"""``seed``: a job goes on with deltas at a remote that a disk was carried to; a disk that is not whole is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from remotes.local import LocalRemote
from xobackup.cli.exits import Exit
from xobackup.clock import FakeClock
from xobackup.engine.mirror.seed import NAME
from xobackup.repository.layout import metadata_name
from xotest.backups import START_S, VM, Guest
from xotest.rot import flip_bit
from xotest.site import Site, xobackup
from xotest.xo_rules import assert_conformant


class Travel:
    """A guest with two restore points in ``near``; ``disk`` and ``far`` are empty."""

    def __init__(self, root: Path) -> None:
        self.near, self.disk, self.far = (root / name for name in ("near", "disk", "far"))
        for path in (self.near, self.disk, self.far):
            path.mkdir()
        self.guest = Guest(FakeClock(START_S))
        self.points = [self.guest.back_up(LocalRemote(self.near))]
        self.guest.write(0, "-E--")
        self.points.append(self.guest.back_up(LocalRemote(self.near)))

    def export(self) -> int:
        return xobackup("seed", "export", "--from", f"file://{self.near}", "--to", self.disk).code

    def arrives(self) -> list[str]:
        return self.guest.check(LocalRemote(self.far))


@pytest.fixture
def travel(tmp_path: Path) -> Travel:
    return Travel(tmp_path)


def test_a_seed_is_carried_and_the_job_goes_on_there_with_deltas(site: Site, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    site.other.mkdir(exist_ok=True)
    site.xobackup("run")
    assert "2 restore points" in site.xobackup("seed", "export", "--from", "nas", "--to", disk).out
    manifest = json.loads((disk / NAME).read_text())
    assert {one["name"] for one in manifest["points"]} == {"web", "db"}
    site.configure(remotes='["other"]')
    imported = site.xobackup("seed", "import", "--from", disk, "--to", "other", "--json")
    assert len(imported.of("copied")) == 2 and imported.of("seed")[0]["points"] == 2
    site.pool.gc()
    site.write("web", 0, b"x" * 4096)
    (report,) = site.xobackup("run", "--json").of("report")
    assert [(vm["fulls"], vm["deltas"]) for vm in report["vms"] if vm["name"] == "web"] == [(0, 2)]
    assert_conformant(site.other)
    restored = tmp_path / "disk.raw"
    named = ("web", "--remote", "other", "--disk", "web system")
    site.xobackup("restore", "disk", *named, "--output", restored, "--format", "raw")
    assert hashlib.sha256(restored.read_bytes()).hexdigest() == site.disk_sha256("web", 0)


def test_an_export_is_repeated_and_carries_what_is_new(travel: Travel) -> None:
    assert travel.export() == Exit.OK
    travel.guest.write(0, "--F-")
    travel.points.append(travel.guest.back_up(LocalRemote(travel.near)))
    assert travel.export() == Exit.OK
    assert xobackup("seed", "import", "--from", travel.disk, "--to", f"file://{travel.far}").code == Exit.OK
    assert travel.arrives() == travel.points


def test_an_export_that_could_not_copy_everything_leaves_no_manifest(travel: Travel) -> None:
    assert travel.export() == Exit.OK
    travel.guest.write(0, "--F-")
    flip_bit(LocalRemote(travel.near), travel.guest.back_up(LocalRemote(travel.near)), 2)
    assert travel.export() == Exit.FAILED
    assert not (travel.disk / NAME).exists()
    result = xobackup("seed", "import", "--from", travel.disk, "--to", f"file://{travel.far}")
    assert result.code == Exit.USAGE and "its export was not finished" in result.err
    assert not list(travel.far.iterdir()), "nothing was touched"


@pytest.mark.parametrize("damage", ["cut", "changed", "point", "lost", "another release"])
def test_a_disk_that_is_not_as_exported_is_refused(travel: Travel, damage: str) -> None:
    assert travel.export() == Exit.OK
    manifest, point = travel.disk / NAME, travel.disk / metadata_name(VM, travel.points[1])
    text = manifest.read_text()
    if damage == "cut":
        manifest.write_text(text[:100])
    elif damage == "changed":
        manifest.write_text(text.replace("guest", "gaest"))
    elif damage == "point":
        point.write_bytes(point.read_bytes() + b" ")
    elif damage == "lost":
        point.unlink()
    else:
        manifest.write_text("[]")
    result = xobackup("seed", "import", "--from", travel.disk, "--to", f"file://{travel.far}")
    assert result.code == Exit.DAMAGE
    assert "expected" in result.err + result.out or "not on the disk" in result.out
    assert not [entry for entry in travel.far.iterdir() if entry.name == "xo-vm-backups"], "nothing was imported"


def test_a_damaged_block_on_the_disk_is_not_imported(travel: Travel) -> None:
    assert travel.export() == Exit.OK
    flip_bit(LocalRemote(travel.disk), travel.points[1], 1)
    result = xobackup("seed", "import", "--from", travel.disk, "--to", f"file://{travel.far}")
    assert result.code == Exit.SOME_FAILED and "digest differs" in result.out
    assert travel.arrives() == travel.points[:1]
