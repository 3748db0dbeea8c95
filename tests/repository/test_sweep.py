"""Cut the power at every change of a run: nothing published is ever lost, and the next run succeeds."""

import pytest

from remotes import errors
from vhd.block import BLOCK_BYTES
from xobackup.clock import FakeClock
from xobackup.repository import base, options
from xobackup.repository.errors import RepositoryError
from xotest.backups import START_S, VM, Guest, memory_remote
from xotest.sweep import sweep, sweep_errors

pytestmark = pytest.mark.slow
LAYOUTS = pytest.mark.parametrize("vhd_directory", [False, True], ids=["files", "directories"])


class World:
    """A guest with three restore points, and copies of it and of its remote to break."""

    def __init__(self, *, vhd_directory: bool, points: int = 3, disks: tuple[str, ...] = ("AB-", "-Cd")) -> None:
        self.clock = FakeClock(START_S)
        self.guest = Guest(self.clock, disks, vhd_directory=vhd_directory)
        self.remote = memory_remote(self.clock)
        for letter in "EFGH"[:points]:
            self.guest.back_up(self.remote)
            for number in range(len(disks)):
                self.guest.write(number, [f"-{letter}-", f"{letter.lower()}--"][number - len(disks)])
        self.points = list(self.guest.expected)
        self.checked = None

    def build(self):
        return self.remote.snapshot()

    def check(self, remote):
        """After a cut everything; a second time only the list, since :meth:`clean` follows and looks closer."""
        if remote is self.checked:
            return [point.id for point in self.guest.repository(remote).points(VM).points]
        self.checked = remote
        there = self.guest.check(remote)
        found = self.guest.repository(remote).verify(VM)
        assert not found.damaged, [str(problem) for problem in found.problems]
        return there

    def clean(self, remote):
        """After a run that ended by itself."""
        there = self.guest.check(remote, litter=False, merges=False)
        repository = self.guest.repository(remote)
        report = repository.verify(VM)
        assert report.problems == []
        assert report.coverage.compared == report.coverage.blocks
        assert [str(f) for f in repository.clean_plan(VM) if f.problem.code != "digests-stale"] == []
        return there


@LAYOUTS
def test_a_backup(vhd_directory):
    disks = ("-Cd",) if vhd_directory else ("AB-", "-Cd")
    world = World(vhd_directory=vhd_directory, points=2, disks=disks)
    bases, drawn = [list(b) for b in world.guest.bases], [dict(d) for d in world.guest.drawn]

    def run(remote):
        # what the pool knows of: a run that did not come back gave no new base
        world.guest.bases = [list(b) for b in bases]
        world.guest.drawn = [dict(d) for d in drawn]
        world.guest.back_up(remote)

    def check(remote):
        assert set(world.points) <= set(world.check(remote))

    cuts = sweep(world.build, run, check, world.clean)
    assert cuts > 20


def test_a_whole_run_where_one_of_two_disks_is_too_large_for_a_file(monkeypatch):
    """With the largest file of a VHD at three blocks: the rules for sizes that no test can write."""
    monkeypatch.setattr(options, "SIZE_MAX_BYTES", 3 * BLOCK_BYTES)
    monkeypatch.setattr(base, "SIZE_MAX_BYTES", 3 * BLOCK_BYTES)
    world = World(vhd_directory=False, points=2, disks=("A--", "---F"))
    paths = [disk.path for disk in world.guest.repository(world.remote).points(VM).points[-1].disks]
    assert [path.endswith(".alias.vhd") for path in paths] == [False, True]
    bases, drawn = [list(b) for b in world.guest.bases], [dict(d) for d in world.guest.drawn]

    def run(remote):
        world.guest.bases = [list(b) for b in bases]
        world.guest.drawn = [dict(d) for d in drawn]
        world.guest.back_up(remote, keep=2)

    def check(remote):
        assert len(world.check(remote)) >= 2

    assert sweep(world.build, run, check, world.clean, every=4) > 12


@LAYOUTS
def test_the_very_first_backup(vhd_directory):
    world = World(vhd_directory=vhd_directory, points=0)
    drawn = [dict(d) for d in world.guest.drawn]

    def run(remote):
        world.guest.bases = [[], []]
        world.guest.drawn = [dict(d) for d in drawn]
        world.guest.back_up(remote)

    def finished(remote):
        with world.guest.repository(remote).lock(VM, timeout_s=60) as directory:
            directory.merge()
        world.clean(remote)

    assert sweep(world.build, run, world.check, finished) > 20


@LAYOUTS
def test_retention_and_merge(vhd_directory):
    world = World(vhd_directory=vhd_directory, points=4, disks=("-Cd",))
    kept = world.points[2:]

    def run(remote):
        with world.guest.repository(remote).lock(VM, timeout_s=60) as directory:
            there = [point.id for point in directory.points().points]
            directory.delete_points([point for point in there if point not in kept])
            directory.merge()

    def check(remote):
        there = world.check(remote)
        assert set(kept) <= set(there)

    def finished(remote):
        assert world.clean(remote) == kept

    assert sweep(world.build, run, check, finished) > 20


@LAYOUTS
def test_deleting_the_newest(vhd_directory):
    world = World(vhd_directory=vhd_directory, points=3, disks=("-Cd",))
    kept = world.points[:1]

    def run(remote):
        with world.guest.repository(remote).lock(VM, timeout_s=60) as directory:
            there = [point.id for point in directory.points().points]
            directory.delete_points([point for point in there if point not in kept])
            directory.merge()

    def check(remote):
        assert set(kept) <= set(world.check(remote))

    def finished(remote):
        assert world.clean(remote) == kept

    assert sweep(world.build, run, check, finished) > 10


@LAYOUTS
def test_a_full_disk_at_every_change_of_a_run(vhd_directory):
    world = World(vhd_directory=vhd_directory, points=2, disks=("-Cd",))
    bases, drawn = [list(b) for b in world.guest.bases], [dict(d) for d in world.guest.drawn]

    def run(remote):
        world.guest.bases = [list(b) for b in bases]
        world.guest.drawn = [dict(d) for d in drawn]
        world.guest.back_up(remote, keep=2)

    def check(remote):
        assert len(world.check(remote)) >= 2

    expected = (errors.RemoteError, RepositoryError)
    cuts = sweep_errors(world.build, run, check, world.clean, error=errors.NoSpace, expected=expected, lasting=True)
    assert cuts > 20


@LAYOUTS
def test_cleaning(vhd_directory):
    world = World(vhd_directory=vhd_directory, points=2)
    lineage = f"xo-vm-backups/{VM}/vdis"
    job = world.remote.list(lineage)[0].name
    vdi = world.remote.list(f"{lineage}/{job}")[0].name
    litter = [
        f"{lineage}/{job}/{vdi}/.20200101T000000Z.vhd.part",
        f".xobackup/digests/{VM}/{job}/{vdi}/20200101T000000Z.xxh3",
    ]
    for name in litter:
        world.remote.put(name, b"left")
    unnamed = f"{lineage}/{job}/99999999-0000-4000-8000-000000000001"
    world.remote.put(f"{unnamed}/20200101T000000Z.vhd", b"whatever it is")
    world.remote.put(f"xo-vm-backups/{VM}/cache.json.gz", b"nonsense")

    def run(remote):
        with world.guest.repository(remote).lock(VM, timeout_s=60) as directory:
            directory.clean_apply()

    def check(remote):
        assert world.check(remote) == world.points

    def finished(remote):
        assert world.clean(remote) == world.points
        found = {entry.name for entry in remote.list(f".xobackup/quarantine/{VM}")}
        assert found

    assert sweep(world.build, run, check, finished) >= 5
