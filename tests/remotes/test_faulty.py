"""A planned fault fires where it was planned, or the test that planned it fails."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from remotes import errors, faces, names
from remotes.contract import Remote
from remotes.faults import CHANGES, Cut, Fault, Faults, Moment, PowerCut
from remotes.faulty import FaultyRemote, faulty
from remotes.memory import MemoryRemote


def put_three(remote: Remote) -> None:
    for name in ("one", "two", "three"):
        remote.put(name, name.encode())


OPERATIONS = 29


def everything(remote: Remote) -> None:
    """Every operation there is, once."""
    remote.list("")
    remote.put("object", b"content")
    remote.stat("object")
    remote.get("object")
    remote.make_directory("directory")
    remote.touch("directory")
    remote.usage()
    with contextlib.closing(remote.create("file")) as file, contextlib.closing(remote.open("object")) as source:
        file.write_at(0, b"x")
        file.copy_range(source, 0, 0, 7)
        file.truncate(3)
        file.written(0, 3)
        file.sync()
        file.size()
        file.read_into(0, memoryview(bytearray(3)))
    remote.update("file").close()
    remote.rename("file", "renamed")
    remote.delete("renamed")
    remote.remove_directory("directory")
    remote.delete_tree("none")
    faces.copy(remote, "object", "copied")
    faces.delete_many(remote, ["copied"])
    upload = faces.upload(remote, "uploaded")
    upload.write(memoryview(b"x"))
    upload.finish()
    upload.abort()
    faces.discard_uploads(remote, "uploaded")
    faces.probe(remote)
    faces.remarks(remote)


def test_without_a_plan_everything_passes_and_is_counted() -> None:
    faults = Faults()
    everything(FaultyRemote(MemoryRemote(), faults))
    kinds = [operation.kind for operation in faults.log]
    assert len(kinds) == len(set(kinds)) == faults.operations == OPERATIONS
    assert set(kinds) > CHANGES
    assert faults.changes == len(CHANGES)
    faults.assert_all_fired()


@pytest.mark.parametrize("number", range(1, OPERATIONS + 1))
def test_every_operation_can_fail(number: int) -> None:
    with faulty(MemoryRemote(), Fault(at=number)) as remote:
        with pytest.raises(errors.Unavailable, match="planned") as caught:
            everything(remote)
        assert caught.value.transient
        assert remote.faults.operations == number


@pytest.mark.parametrize(
    ("fault", "there"),
    [
        (Fault(at=2), ["one"]),
        (Fault(at=2, after=True), ["one", "two"]),
        (Fault(name="t*", skip=1), ["one", "two"]),
        (Fault(operation="put", name="th*", after=True), ["one", "three", "two"]),
        (Fault(at_change=1), []),
    ],
)
def test_a_fault_hits_what_it_matches(fault: Fault, there: list[str]) -> None:
    inner = MemoryRemote()
    with faulty(inner, fault) as remote, pytest.raises(errors.Unavailable):
        put_three(remote)
    assert [entry.name for entry in inner.list("")] == there


def test_a_fault_may_fire_again_and_again() -> None:
    with faulty(MemoryRemote(), Fault(operation="put", error=errors.NoSpace, times=None)) as remote:
        for _ in range(3):
            with pytest.raises(errors.NoSpace):
                remote.put("a", b"")
        assert remote.list("") == []
    with faulty(MemoryRemote(), Fault(times=2)) as remote:
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                remote.put("a", b"")
        remote.put("a", b"")


@pytest.mark.parametrize(
    "plan",
    [
        Faults(Fault(at=4)),
        Faults(Fault(times=4, operation="put", error=errors.NotFound, skip=3)),
        Faults(Fault(name="nothing", times=None)),
        Faults(cut=Cut(at=4)),
    ],
)
def test_a_fault_that_did_not_fire_fails_the_test(plan: Faults) -> None:
    put_three(FaultyRemote(MemoryRemote(), plan))
    with pytest.raises(AssertionError, match="did not"):
        plan.assert_all_fired()


@pytest.mark.parametrize(
    ("moment", "there"),
    [(Moment.BEFORE, ["one"]), (Moment.AFTER, ["one", "two"])],
)
def test_after_a_power_cut_nothing_works_any_more(moment: Moment, there: list[str]) -> None:
    inner = MemoryRemote()
    with faulty(inner, cut=Cut(at=2, moment=moment)) as remote:
        with pytest.raises(PowerCut):
            put_three(remote)
        later: list[Callable[[], object]] = [lambda: remote.list(""), lambda: remote.put("four", b""), remote.usage]
        for action in later:
            with pytest.raises(PowerCut):
                action()
        remote.close()
    assert [entry.name for entry in inner.list("")] == there


def test_a_power_cut_is_no_ordinary_exception() -> None:
    remote = FaultyRemote(MemoryRemote(), Faults(cut=Cut(at=1)))
    cleaned = []
    with pytest.raises(PowerCut):
        try:
            with contextlib.suppress(Exception):
                remote.put("a", b"")
        finally:
            cleaned.append(1)
            remote.delete("a", missing_ok=True)
    assert cleaned


def during(job: Callable[[Remote], object], at: int, seed: int) -> MemoryRemote:
    inner = MemoryRemote()
    remote = FaultyRemote(inner, Faults(cut=Cut(at=at, moment=Moment.DURING), rng=random.Random(seed)))
    with pytest.raises(PowerCut):
        job(remote)
    return inner


def test_a_torn_put_leaves_the_old_content_and_a_temporary_file() -> None:
    def job(remote: Remote) -> None:
        remote.put("object", b"old")
        remote.put("object", b"new" * 100)

    sizes = set()
    for seed in range(10):
        inner = during(job, 2, seed)
        assert inner.get("object") == b"old"
        left = [entry for entry in inner.list("") if entry.name != "object"]
        assert all(names.is_temporary(entry.name) for entry in left)
        sizes |= {entry.size_bytes for entry in left}
    assert len(sizes) > 1


def test_a_torn_write_is_written_in_part() -> None:
    def job(remote: Remote) -> None:
        file = remote.create("file")
        file.write_at(100, b"x" * 20_000)

    sizes = {during(job, 2, seed).stat("file").size_bytes for seed in range(20)}
    assert len(sizes) > 3
    assert max(sizes) <= 20_100
    assert all(size % 512 == 0 for size in sizes - {20_100}), "a disk writes its sectors whole"


def test_a_torn_tree_is_deleted_in_part() -> None:
    def job(remote: Remote) -> None:
        for number in range(6):
            remote.put(f"tree/{number % 2}/{number}", b"")
        remote.delete_tree("tree")

    left = {len(inner.list("tree/0")) + len(inner.list("tree/1")) for inner in (during(job, 7, s) for s in range(20))}
    assert len(left) > 2


def test_torn_directories_are_made_in_part() -> None:
    depths = set()
    for seed in range(20):
        for job in (
            lambda remote: remote.make_directory("a/b/c"),
            lambda remote: remote.put("a/b/object", b""),
        ):
            inner = during(job, 1, seed)
            depths.add(next((depth for depth in (3, 2, 1) if there(inner, "a/b/c"[: 2 * depth - 1])), 0))
    assert depths == {0, 1, 2, 3}


def there(remote: Remote, name: str) -> bool:
    try:
        remote.stat(name)
    except errors.NotFound:
        return False
    return True
