"""Every implementation keeps every promise, and the suite notices one that does not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotes import errors
from remotes.clock import Clock, SystemClock
from remotes.conformance import PROMISES, Promise, run_conformance, run_promise, scratch_of
from remotes.contract import Buffer, Entry, Remote
from remotes.encryption.aead import Algorithm
from remotes.encryption.chunked import ChunkedObjects
from remotes.encryption.markers import open_xo_encrypted
from remotes.encryption.remote import EncryptedRemote
from remotes.faults import Faults
from remotes.faulty import FaultyRemote
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from remotes.retrying import RetryingRemote
from xotest.mounts import loop
from xotest.relayed import ReadThrough
from xotest.s3.memory import MemoryS3

IMPLEMENTATIONS = {
    "memory": lambda path: MemoryRemote(),
    "limited memory": lambda path: MemoryRemote(capacity_bytes=1 << 30),
    "local": LocalRemote,
    "retrying": lambda path: RetryingRemote(MemoryRemote()),
    "encrypted": lambda path: open_xo_encrypted(LocalRemote(path), "k" * 32),
    "encrypted memory": lambda path: open_xo_encrypted(MemoryRemote(), "k" * 32, algorithm="aes-256-gcm"),
    "encrypted in chunks": lambda path: EncryptedRemote(
        LocalRemote(path), ChunkedObjects(b"k" * 32, Algorithm.AES_256_GCM, b"r" * 16)
    ),
    "faulty": lambda path: FaultyRemote(LocalRemote(path), Faults()),
    "read through a relay": lambda path: ReadThrough(MemoryRemote()),
    "s3 in memory": lambda path: MemoryS3(SystemClock(), page=50).remote(),
}


@pytest.fixture(params=IMPLEMENTATIONS)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    made: Remote = IMPLEMENTATIONS[request.param](tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name.replace(" ", "-"))
def test_it_keeps_its_promise(remote: Remote, promise: Promise) -> None:
    with scratch_of(remote) as scratch:
        check = run_promise(promise, scratch)
    assert check.ok, check.detail
    assert check.seconds >= 0


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_other_file_systems_keep_every_promise(kind: str) -> None:
    with loop(400 << 20, kind=kind) as mounted:
        remote = LocalRemote(mounted.path)
        checks = run_conformance(remote)
        remote.close()
    assert [check for check in checks if not check.ok] == []


def test_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    remote = LocalRemote(tmp_path)
    remote.put("xo-vm-backups/vm/cache.json.gz", b"kept")
    checks = run_conformance(remote)
    assert len(checks) == len(PROMISES)
    assert all(check.ok for check in checks)
    assert [entry.name for entry in remote.list("")] == ["xo-vm-backups"]
    remote.put(".xobackup/digests/one", b"kept")
    with scratch_of(remote):
        pass
    assert [entry.name for entry in remote.list(".xobackup")] == ["digests"]


class Lying(MemoryRemote):
    """Keeps some promises badly, one a subclass."""


class ForgetsReplace(Lying):
    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        super().put(name, data)


class ListsPartially(Lying):
    def list(self, directory: str) -> list[Entry]:
        return super().list(directory)[:100]


class SharesLocks(Lying):
    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        super().make_directory(name)


class LeaksOsErrors(Lying):
    def stat(self, name: str) -> Entry:
        raise OSError(5, "input/output error")


class ReadsZeros(Lying):
    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return bytes(len(super().get(name, limit_bytes=limit_bytes)))


class FarAway:
    """A clock on the moon."""

    def __init__(self) -> None:
        self._rng = random.Random(0)

    def now_s(self) -> float:
        return 1_000_000.0

    def monotonic_s(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("remote", "broken"),
    [
        (ForgetsReplace(), {"put replaces only when asked", "one of several puts a new name"}),
        (ListsPartially(), {"a listing is complete"}),
        (SharesLocks(), {"directories are made and removed", "one of several gets a lock"}),
        (LeaksOsErrors(), {"stat and list agree", "touch moves the time forward"}),
        (ReadsZeros(), {"what was put is got", "a file is renamed"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MemoryRemote) else "",
)
def test_a_broken_promise_is_named(remote: Remote, broken: set[str]) -> None:
    found = {check.name: check for check in run_conformance(remote) if not check.ok}
    assert broken <= set(found)
    assert all(check.detail and not check.skipped for check in found.values())


def test_a_storage_with_another_time_is_named() -> None:
    clock: Clock = FarAway()
    promise = next(each for each in PROMISES if "agree on the time" in each.name)
    with scratch_of(MemoryRemote(), clock) as scratch:
        check = run_promise(promise, scratch)
    assert not check.ok
    assert "ahead" in check.detail
    with scratch_of(MemoryRemote(clock=clock)) as scratch:
        check = run_promise(promise, scratch)
    assert not check.ok
    assert "behind" in check.detail


def test_a_remote_that_cannot_be_written_fails_at_once() -> None:
    with pytest.raises(errors.NoSpace):
        MemoryRemote(capacity_bytes=0).put("a", b"x")
    checks = run_conformance(MemoryRemote(capacity_bytes=4096))
    assert any("no space left" in check.detail for check in checks if not check.ok)
