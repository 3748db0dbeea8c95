"""Objects without an alias are deleted when they are left over for certain, and never when they may be somebody's."""

from __future__ import annotations

import json

import pytest

from remotes.names import join
from xobackup.clock import FakeClock
from xobackup.repository import holder
from xobackup.repository.begun import QUIET_S
from xobackup.repository.findings import Action
from xobackup.repository.layout import begun_directory, image_note_name
from xotest.backups import JOB, START_S, VM, Guest, live_uuid
from xotest.s3.memory import MemoryS3

LINEAGE = f"vdis/{JOB}/{live_uuid(0)}"
DATA = f"xo-vm-backups/{VM}/{LINEAGE}/data/20300101T000000Z.vhd"
NOTE = f"{begun_directory(VM, LINEAGE)}/20300101T000000Z.vhd.json"
IMAGE = "20300101T000000Z.xva"


class Overwrites(MemoryS3):
    """A store that lets nobody lock."""

    def put_object(self, *, IfNoneMatch: str = "", **parameters):
        return super().put_object(**parameters)


class World:
    def __init__(self, kind: type[MemoryS3]) -> None:
        self.clock = FakeClock(START_S)
        self.store = kind(self.clock)
        self.remote = self.store.remote()
        self.guest = Guest(self.clock, ("AB",))
        self.guest.back_up(self.remote)
        self.remote.put(f"{DATA}/blocks/0/7", b"a block")

    def note(self, **fields) -> None:
        self.remote.put(NOTE, json.dumps({"version": 1, **holder.this_process(), **fields}).encode())

    def merge(self):
        with self.guest.repository(self.remote).lock(VM) as directory:
            return directory.merge()

    @property
    def there(self) -> bool:
        return bool(self.store.list_objects_v2(Bucket="bucket", Prefix=f"dir/{DATA}/")["Contents"])


@pytest.mark.parametrize("kind", [MemoryS3, Overwrites])
def test_what_nobody_noted_waits_for_a_day(kind: type[MemoryS3]) -> None:
    world = World(kind)
    world.clock.advance(QUIET_S - 10)
    world.merge()
    assert world.there
    (finding,) = world.guest.repository(world.remote).clean_plan(VM)
    assert finding.problem.code == "data-fresh" and finding.action is Action.NONE
    assert "1439 minutes ago" in finding.problem.message
    world.clock.advance(20)
    world.merge()
    assert not world.there
    assert world.guest.check(world.remote, litter=False)


def test_what_was_noted_under_a_lease_is_left_over_for_whoever_holds_it_now() -> None:
    world = World(MemoryS3)
    world.note(leased=True)
    world.merge()
    assert not world.there and world.remote.stat(".xobackup").kind == "directory"
    assert f"dir/{NOTE}" not in world.store.objects


def test_without_a_lock_only_death_proves_it() -> None:
    world = World(Overwrites)
    world.note(leased=False)
    world.merge()
    assert world.there, "it is this very process: alive"
    assert f"dir/{NOTE}" in world.store.objects
    world.note(leased=False, pid=2**22 + 1)
    world.merge()
    assert not world.there
    assert f"dir/{NOTE}" not in world.store.objects


def test_notes_whose_objects_have_their_alias_or_are_gone_are_removed() -> None:
    world = World(MemoryS3)
    world.remote.put(join(begun_directory(VM, LINEAGE), "20200101T000000Z.vhd.json"), b"{}")
    world.merge()
    assert [key for key in world.store.objects if "/begun/" in key] == []


def test_a_first_backup_under_way_is_not_set_aside() -> None:
    world = World(Overwrites)
    other = f"xo-vm-backups/{VM}/vdis/{JOB}/{live_uuid(9)}"
    world.remote.put(f"{other}/data/20300101T000000Z.vhd/blocks/0/0", b"a block")
    repository = world.guest.repository(world.remote)
    finding = next(each for each in repository.clean_plan(VM) if each.problem.path.endswith(live_uuid(9)))
    assert finding.problem.code == "vdi-directory-fresh" and not finding.certain
    with repository.lock(VM) as directory:
        directory.clean_apply()
    assert world.remote.list(f"{other}/data/20300101T000000Z.vhd/blocks/0")


@pytest.mark.parametrize(
    ("kind", "fields", "gone"),
    [
        (MemoryS3, {"leased": True}, True),
        (Overwrites, {"leased": False}, False),
        (Overwrites, {"leased": False, "pid": 2**22 + 1}, True),
    ],
)
def test_uploads_and_images_follow_the_same_rule(kind: type[MemoryS3], fields, gone: bool) -> None:
    world = World(kind)
    path = f"xo-vm-backups/{VM}/{IMAGE}"
    world.store.create_multipart_upload(Bucket="bucket", Key=f"dir/{path}")
    world.remote.put(path, b"an image")
    world.remote.put(image_note_name(VM, IMAGE), json.dumps({**holder.this_process(), **fields}).encode())
    world.merge()
    assert (f"dir/{path}" not in world.store.objects) == gone
    assert (not world.store.uploads) == gone
    if not gone:
        world.clock.advance(QUIET_S + 60)
        world.merge()
        assert f"dir/{path}" not in world.store.objects and not world.store.uploads
