"""Restore points from remote to remote: the same bytes, chains that go on, damage that does not travel."""

from __future__ import annotations

import pytest

from remotes.contract import Remote
from schedules.retention import Rule
from xobackup.clock import FakeClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import UsageError
from xobackup.engine.mirror import copy
from xobackup.engine.mirror.choose import Filter
from xobackup.engine.mirror.copy import VmMirror, VmMirrored, Wish, refuse_same
from xobackup.engine.progress import Meter
from xobackup.repository.errors import LockHeld
from xobackup.repository.layout import metadata_name
from xotest.backups import START_S, VM, Guest, memory_remote, repository
from xotest.rot import flip_bit
from xotest.sweep import sweep


class World:
    """A guest with backups on one remote, and another remote."""

    def __init__(self) -> None:
        self.clock = FakeClock(START_S)
        self.guest = Guest(self.clock)
        self.source = memory_remote(self.clock)
        self.target = memory_remote(self.clock)
        self.points = [self.guest.back_up(self.source)]
        for picture in ("-E--", "--F-", "G---"):
            self.back_up(picture)

    def back_up(self, picture: str, *, keep: int | None = None) -> None:
        self.guest.write(0, picture)
        self.points.append(self.guest.back_up(self.source, keep=keep))

    def mirror(self, target: Remote | None = None, wish: Wish | None = None, **options: object) -> VmMirrored:
        one = repository(self.source, self.clock)
        other = repository(self.target if target is None else target, self.clock, **options)
        run = VmMirror(one, other, VM, wish or Wish(), clock=self.clock, cancel=CancelToken())
        return run.run(Meter("guest", self.clock))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("directory", [False, True])
def test_every_point_is_copied_as_the_delta_it_is_also_into_the_other_layout(world: World, directory: bool) -> None:
    done = world.mirror(vhd_directory=directory, wish=Wish(verify=True))
    assert list(done.copied) == world.points
    assert not done.failed
    assert [one.blocks for one in done.copied.values()] == [4, 1, 1, 1]
    assert all(one.compared == one.blocks and not one.unchecked and not one.fulls for one in done.copied.values())
    assert world.guest.check(world.target, litter=False) == world.points
    again = world.mirror(vhd_directory=directory)
    assert not again.copied
    assert {choice.reason for choice in again.left} == {"the target has it"}


def test_a_backup_made_straight_to_the_target_continues_the_mirrored_chain(world: World) -> None:
    world.mirror()
    world.guest.write(0, "-H--")
    point = world.guest.back_up(world.target)
    found = repository(world.target, world.clock).point(VM, point)
    assert all(found.metadata["isVhdDifferencing"].values())
    assert world.guest.check(world.target) == [*world.points, point]


def test_a_delta_bridges_points_that_the_source_has_merged_away(world: World) -> None:
    world.mirror()
    world.back_up("-H--")
    world.back_up("--I-")
    with repository(world.source, world.clock).lock(VM) as directory:
        directory.delete_points([world.points[4]])
        directory.merge()
    done = world.mirror()
    assert [(one.blocks, one.fulls) for one in done.copied.values()] == [(2, [])]
    assert world.guest.check(world.target) == [*world.points[:4], world.points[5]]


def test_when_nothing_common_is_left_it_is_a_full_with_the_reason(world: World) -> None:
    world.mirror()
    world.back_up("-H--")
    world.back_up("--I-", keep=1)
    done = world.mirror()
    (copied,) = done.copied.values()
    assert len(copied.fulls) == 2
    assert "merged" in copied.fulls[0]
    assert world.guest.check(world.target) == [*world.points[:4], world.points[5]]


def test_retention_of_the_target_is_its_own_and_what_it_would_delete_is_not_copied(world: World) -> None:
    wish = Wish(rule=Rule(newest=2))
    assert list(world.mirror(wish=wish).copied) == world.points[2:]
    world.back_up("-H--")
    done = world.mirror(wish=wish)
    assert done.deleted == [world.points[2]]
    assert world.guest.check(world.target, litter=False, merges=False) == world.points[3:]
    assert not world.mirror(wish=wish).copied


def test_a_damaged_block_is_not_published_nor_what_depends_on_it_and_the_rest_goes_on(world: World) -> None:
    flip_bit(world.source, world.points[1], 1)
    world.back_up("-H--")
    done = world.mirror(wish=Wish(rule=Rule(newest=3)))
    assert set(done.failed) == {world.points[2], world.points[3]}
    assert all("digest differs" in error for error in done.failed.values()) and done.damaged == done.failed
    assert list(done.copied) == [world.points[4]]
    assert not done.deleted
    assert world.guest.check(world.target) == [world.points[4]]


def test_an_uncertain_listing_of_the_source_deletes_nothing(world: World) -> None:
    world.mirror()
    world.source.put(metadata_name(VM, world.points[3]), b"{not json")
    done = world.mirror(wish=Wish(rule=Rule(newest=1)))
    assert not done.deleted
    assert any("nothing was deleted" in note for note in done.notes)
    assert world.guest.check(world.target) == world.points


def test_a_point_that_retention_takes_away_while_it_is_read_is_left_out(world: World) -> None:
    class Vanishing(Meter):
        def add(self, size_bytes: int) -> None:
            world.source.delete(metadata_name(VM, world.points[0]), missing_ok=True)

    one, other = repository(world.source, world.clock, use_cache=False), repository(world.target, world.clock)
    run = VmMirror(one, other, VM, Wish(), clock=world.clock, cancel=CancelToken())
    done = run.run(Vanishing("guest", world.clock))
    assert [choice.point.id for choice in done.left] == [world.points[0]]
    assert not done.failed
    assert world.guest.check(world.target) == world.points[1:]


def test_filters_narrow(world: World) -> None:
    assert not world.mirror(wish=Wish(filter=Filter(jobs=["another"]))).copied
    assert not world.mirror(wish=Wish(filter=Filter(tags=["gold"]))).copied
    assert VM not in repository(world.target, world.clock).vms()
    since = Filter(since_ms=repository(world.source, world.clock).point(VM, world.points[2]).timestamp_ms)
    assert list(world.mirror(wish=Wish(filter=since)).copied) == world.points[2:]


def test_a_remote_is_not_mirrored_into_itself(world: World) -> None:
    with pytest.raises(UsageError, match="the same repository"):
        refuse_same(repository(world.source, world.clock), repository(world.source, world.clock))


@pytest.mark.timeout(120)
def test_the_power_goes_off_at_any_change_to_the_target(world: World) -> None:
    world.mirror()
    world.back_up("-H--")
    wish = Wish(rule=Rule(newest=3))

    def finished(remote: Remote) -> None:
        assert world.guest.check(remote, litter=False, merges=False) == world.points[2:]

    def run(remote: Remote) -> None:
        assert not world.mirror(remote, wish).failed

    assert sweep(world.target.snapshot, run, world.guest.check, finished, every=4) > 5


def test_a_target_that_runs_full_keeps_what_was_published_and_deletes_nothing(world: World) -> None:
    roomy = memory_remote(world.clock, capacity_bytes=1 << 30)
    world.mirror(roomy)
    usage = roomy.usage()
    assert usage is not None
    used_bytes = (1 << 30) - usage.free_bytes
    small = memory_remote(world.clock, capacity_bytes=used_bytes * 2 // 3)
    done = world.mirror(small, wish=Wish(rule=Rule(newest=4)))
    assert done.copied and done.failed and not done.deleted
    assert list(done.copied) == world.points[: len(done.copied)]
    assert world.guest.check(small) == list(done.copied)


def test_a_chain_at_the_source_that_lacks_a_parent_fails_and_what_was_mirrored_stays(world: World) -> None:
    world.mirror()
    first = repository(world.source, world.clock).point(VM, world.points[0])
    world.back_up("-H--")
    for disk in first.disks:
        world.source.delete(f"xo-vm-backups/{VM}/{disk.path}")
    done = world.mirror(wish=Wish(rule=Rule(newest=1)))
    assert set(done.failed) >= {world.points[4]} and not done.copied and not done.deleted
    assert world.guest.check(world.target) == world.points[:4]


def test_of_two_mirrors_into_one_target_the_second_is_told_who_works_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "LOCK_WAIT_S", 0.5)
    with repository(world.target, world.clock).lock(VM), pytest.raises(LockHeld):
        world.mirror()
    assert list(world.mirror().copied) == world.points
    assert world.guest.check(world.target) == world.points


def test_retention_at_the_target_also_counts_what_its_job_wrote_there_directly(world: World) -> None:
    world.mirror()
    direct = world.guest.back_up(world.target)
    done = world.mirror(wish=Wish(rule=Rule(newest=2)))
    assert done.deleted == world.points[:3]
    assert world.guest.check(world.target) == [world.points[3], direct]
