"""What VMs of a run were given of the remotes."""

from __future__ import annotations

from remotes.contract import Usage
from remotes.errors import NoSpace, Unavailable
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock
from xobackup.engine.errors import AllSinksFailed, NoRoom
from xobackup.engine.placing.given import Given, is_full
from xobackup.repository.repository import Repository

FREE = Usage(total_bytes=1000, free_bytes=600)


def test_what_others_were_given_is_not_left_until_they_are_done() -> None:
    given = Given()
    given.give("one", "a", FREE, 400)
    assert (given.left("two", "a", FREE), given.left("two", "b", FREE), given.left("one", "a", FREE)) == (
        200,
        600,
        600,
    )
    assert given.left("two", "a", None) is None
    given.give("two", "a", FREE, 400)
    assert given.left("three", "a", FREE) == 0 and given.count("a") == 2
    given.release("one")
    given.release("never there")
    assert given.left("three", "a", FREE) == 200


def test_remotes_on_the_same_storage_have_one_free_space() -> None:
    given, shared = Given(), Usage(total_bytes=1000, free_bytes=600, storage="device 7")
    given.give("one", "a", shared, 400)
    assert given.left("two", "b", shared) == 200 and given.left("two", "c", FREE) == 600


def test_vms_are_counted_once_and_then_with_those_of_the_run() -> None:
    remote = MemoryRemote()
    remote.make_directory("xo-vm-backups/5f8a2b1e-0000-4000-8000-000000000001")
    repository, given = Repository(remote, clock=FakeClock()), Given()
    assert given.vms_on("a", repository) == 1
    given.give("one", "a", None, 1)
    assert given.vms_on("a", repository) == 2


def test_only_lack_of_room_makes_a_remote_full() -> None:
    full, gone = NoSpace("a", "x"), Unavailable("b", "x", "reset", transient=True)
    assert is_full(full) and is_full(NoRoom("short")) and is_full(AllSinksFailed("vm", {"a": full}))
    assert not is_full(gone) and not is_full(None) and not is_full(AllSinksFailed("vm", {"a": full, "b": gone}))
    assert not is_full(AllSinksFailed("vm", {}))
    given = Given()
    given.found_full("one", "a", full)
    assert "it was full in this run" in given.full("one")["a"] and not given.full("two")
