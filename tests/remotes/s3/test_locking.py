"""Object lock, asked of stores that have it: set as an object is put, in every way that objects are put."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from remotes import errors, faces
from remotes.contract import Remote
from remotes.s3 import copying, uploading
from remotes.s3.locking import ObjectLock
from remotes.url import open_remote
from vhd.block import BLOCK_BYTES
from xobackup.clock import FakeClock, SystemClock
from xotest.s3.faults import FaultyS3
from xotest.s3.locking import LockingS3
from xotest.s3.memory import MemoryS3, refused
from xotest.s3.stores import Store

HOUR_S = 3600.0
LOCK = ObjectLock(mode="governance", seconds_of=lambda name: 0.0 if name.startswith("free") else HOUR_S)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def now_s() -> float:
    return SystemClock().now_s()


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket with object lock, and a look at it without our code."""

    remote: Remote
    client: Any
    name: str

    def retention(self, name: str) -> tuple[str, datetime] | None:
        head = self.client.head_object(Bucket=self.name, Key=f"dir/{name}")
        if "ObjectLockMode" not in head:
            return None
        return head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]


@pytest.fixture(params=["memory", "moto", "radosgw"])
def bucket(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Bucket]:
    if request.param == "memory":
        store = LockingS3(clock)
        clock.advance(now_s() - clock.now_s())
        yield Bucket(store.locked(LOCK), store, "bucket")
        return
    fixture = "moto_store" if request.param == "moto" else "radosgw_stores"
    found = request.getfixturevalue(fixture)
    real: Store = found if isinstance(found, Store) else found[0]
    name = real.bucket(ObjectLockEnabledForBucket=True)
    remote = open_remote(real.url(name, "dir"), lock=LOCK)
    yield Bucket(remote, real.client(), name)
    remote.close()


def put(remote: Remote) -> None:
    remote.put("held", b"content")


def put_new(remote: Remote) -> None:
    remote.put("held", b"content", replace=False)


def copied(remote: Remote) -> None:
    remote.put("free/source", b"content")
    faces.copy(remote, "free/source", "held")


def renamed(remote: Remote) -> None:
    remote.put("free/source", b"content")
    remote.rename("free/source", "held")


def uploaded(remote: Remote) -> None:
    upload = faces.upload(remote, "held", bound_bytes=100)
    upload.write(memoryview(b"content"))
    upload.finish()


def uploaded_in_parts(remote: Remote) -> None:
    upload = faces.upload(remote, "held", bound_bytes=None)
    for _ in range(4):
        upload.write(memoryview(bytes(BLOCK_BYTES)))
    upload.finish()


def copied_in_parts(remote: Remote) -> None:
    remote.put("free/source", bytes(6 << 20))
    locker, keys = remote._locker, remote._keys  # type: ignore[attr-defined]
    copying._copy_in_parts(locker, keys, "free/source", "held", 6 << 20)


WAYS = (put, put_new, copied, renamed, uploaded, uploaded_in_parts, copied_in_parts)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_there_is_no_moment_without_the_lock(
    bucket: Bucket, way: Callable[[Remote], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "PART_BYTES_UNKNOWN", 5 << 20)
    way(bucket.remote)
    found = bucket.retention("held")
    assert found is not None and found[0] == "GOVERNANCE"
    assert 59 * 60 < found[1].timestamp() - now_s() < 76 * 60
    protection = faces.protection(bucket.remote, "held")
    assert protection is not None and protection.hides and protection.mode == "governance"
    assert protection.until_s == pytest.approx(found[1].timestamp())
    assert faces.protection(bucket.remote, "nothing") is None
    bucket.remote.put("free/cache", b"content")
    assert bucket.retention("free/cache") is None and faces.protection(bucket.remote, "free/cache") is None


def test_a_deletion_hides_and_the_version_cannot_be_deleted(bucket: Bucket) -> None:
    bucket.remote.put("held", b"precious")
    bucket.remote.delete("held")
    with pytest.raises(errors.NotFound):
        bucket.remote.get("held")
    versions = bucket.client.list_object_versions(Bucket=bucket.name, Prefix="dir/held")
    (version,) = versions["Versions"]
    assert len(versions["DeleteMarkers"]) == 1
    with pytest.raises(Exception, match=r"AccessDenied|forbidden by object lock"):
        bucket.client.delete_object(Bucket=bucket.name, Key="dir/held", VersionId=version["VersionId"])
    kept = bucket.client.get_object(Bucket=bucket.name, Key="dir/held", VersionId=version["VersionId"])
    assert kept["Body"].read() == b"precious"


def test_a_lock_is_made_longer_and_never_shorter(bucket: Bucket) -> None:
    bucket.remote.put("held", b"key")
    before = bucket.retention("held")
    day = ObjectLock(mode="governance", seconds_of=lambda _: 24 * HOUR_S)
    minute = ObjectLock(mode="governance", seconds_of=lambda _: 60.0)
    bucket.remote._locker.lock = minute  # type: ignore[attr-defined]
    faces.relock(bucket.remote, ["held"])
    assert bucket.retention("held") == before
    bucket.remote._locker.lock = day  # type: ignore[attr-defined]
    faces.relock(bucket.remote, ["held"])
    after = bucket.retention("held")
    assert before is not None and after is not None and after[1] - before[1] > timedelta(hours=22)


@pytest.mark.parametrize("kind", ["memory", "moto", "radosgw"])
def test_a_bucket_without_object_lock_is_refused_when_it_is_opened(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    with pytest.raises(errors.Unavailable, match="expected a bucket with object lock") as caught:
        if kind == "memory":
            LockingS3.locked(MemoryS3(clock), LOCK)  # type: ignore[arg-type]
        else:
            found = request.getfixturevalue("moto_store" if kind == "moto" else "radosgw_stores")
            real = found if isinstance(found, Store) else found[0]
            open_remote(real.url(real.bucket()), lock=LOCK)
    assert "--object-lock-enabled-for-bucket" in str(caught.value.hint)


def test_a_key_that_may_not_lock_is_told_which_permission_it_lacks(clock: FakeClock) -> None:
    def plan(_: int, operation: str) -> BaseException | None:
        return refused(403, "AccessDenied", "Access Denied") if operation == "put_object" else None

    remote = LockingS3(clock).locked(LOCK, lambda client: FaultyS3(client, plan))
    with pytest.raises(errors.AccessDenied) as caught:
        remote.put("held", b"content")
    assert "s3:PutObjectRetention" in str(caught.value.hint)
    with pytest.raises(errors.AccessDenied) as caught:
        remote.put("free/content", b"content")
    assert "s3:PutObjectRetention" not in str(caught.value.hint)


def test_a_key_that_may_not_ask_the_bucket_is_told_which_permission_it_lacks(clock: FakeClock) -> None:
    def plan(_: int, operation: str) -> BaseException | None:
        return refused(403, "AccessDenied") if operation == "get_object_lock_configuration" else None

    store = LockingS3(clock)
    with pytest.raises(errors.AccessDenied) as caught:
        store.locked(LOCK, lambda client: FaultyS3(client, plan))
    assert "s3:GetBucketObjectLockConfiguration" in str(caught.value.hint)
    unasked = store.locked(None, lambda client: FaultyS3(client, plan))
    store.locked(LOCK).put("held", b"content")
    assert faces.protection(unasked, "held") is not None


def remarks(remote: Remote) -> str:
    return "\n".join(f"{one.state}: {one.message} ({one.hint})" for one in faces.remarks(remote))


def test_what_to_know_of_the_bucket_is_told(bucket: Bucket) -> None:
    bucket.remote.put("held", bytes(1 << 20))
    bucket.remote.put("held", b"newer")
    bucket.remote.delete("held")
    told = remarks(bucket.remote)
    assert "locked in governance mode, from the first moment; the bucket has no default retention" in told
    assert "2 old versions of 1.0 MiB, 1 marks of deletions" in told
    assert "s3:BypassGovernanceRetention" in told


def test_a_default_retention_of_the_bucket_is_told(clock: FakeClock) -> None:
    store = LockingS3(clock, default=("COMPLIANCE", 40))
    assert "default retention (compliance for 40 days) locks what we do not" in remarks(store.locked(LOCK))
    foreign = remarks(store.locked(None))
    assert "retention and merges wait until it ends" in foreign and 'mode = "compliance", days = 40' in foreign
    store.default = None
    assert "nothing is locked" in remarks(store.locked(None))
