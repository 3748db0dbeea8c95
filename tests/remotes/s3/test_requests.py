"""Requests are repeated, resumed and counted; what was done after all is recognised; refused forms are left."""

from __future__ import annotations

import base64
import hashlib
import random
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ConnectionClosedError, ResponseStreamingError

from remotes import errors, faces
from remotes.retrying import RetryPolicy
from remotes.s3.address import S3Address
from remotes.s3.conditions import Condition
from remotes.s3.deleting import Form
from remotes.s3.remote import S3Remote
from remotes.s3.uploading import MIB, PARTS_MAX, part_bytes
from xobackup.clock import FakeClock
from xotest.s3.faults import FAILURES, PASSING, FaultyS3, at
from xotest.s3.memory import BUCKET, MemoryS3, refused

QUICK = RetryPolicy(attempts_max=4, first_pause_s=1.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryS3:
    return MemoryS3(clock)


def remote_on(client: Any, clock: FakeClock) -> S3Remote:
    address = S3Address(endpoint="http://memory", bucket=BUCKET, prefix="dir")
    return S3Remote(address, client, clock=clock, policy=QUICK)


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("replace", [False, True])
def test_a_put_survives_what_passes(store: MemoryS3, clock: FakeClock, kind: str, after: bool, replace: bool) -> None:
    remote = remote_on(store, clock)
    remote.probe()
    requests = 1  # once the condition is known to be kept, a put of a new name is one request
    remote = remote_on(FaultyS3(store, at(requests, FAILURES[kind]), after=after), clock)
    remote._conditions.state = Condition.KEPT
    remote.put("name", b"content", replace=replace)
    assert remote.get("name") == b"content"
    assert remote.traffic().repeated == 1


def test_a_name_somebody_else_took_meanwhile_is_not_ours(store: MemoryS3, clock: FakeClock) -> None:
    faulty = FaultyS3(store, at(1, FAILURES["reset"]))
    remote = remote_on(faulty, clock)
    remote._conditions.state = Condition.KEPT
    store.put_object(Bucket=BUCKET, Key="dir/name", Body=b"theirs")
    with pytest.raises(errors.AlreadyExists):
        remote.put("name", b"ours", replace=False)
    assert remote.get("name") == b"theirs"


def test_patience_ends_and_then_the_error_is_final(store: MemoryS3, clock: FakeClock) -> None:
    remote = remote_on(FaultyS3(store, lambda *_: refused(503, "SlowDown")), clock)
    began_s = clock.now_s()
    with pytest.raises(errors.Unavailable, match="SlowDown") as caught:
        remote.get("name")
    assert not caught.value.transient and "gave up after 4 attempts" in caught.value.__notes__[0]
    assert clock.now_s() > began_s and remote.traffic().total == 4


class Breaks:
    """A body that breaks after some bytes."""

    def __init__(self, body: Any, after: int, error: Exception | None) -> None:
        self._body, self._left, self._error = body, after, error

    def readinto(self, view: memoryview) -> int:
        if not self._left:
            if self._error is not None:
                raise self._error
            return 0
        count = int(self._body.readinto(view[: self._left]))
        self._left -= count
        return count

    def close(self) -> None:
        self._body.close()


class Breaking:
    """Every answer's body breaks after ``step`` bytes."""

    def __init__(self, store: MemoryS3, step: int, error: Exception | None) -> None:
        self._store, self._step, self._error = store, step, error
        self.replaced = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_object(self, **parameters: Any) -> dict[str, Any]:
        answer = self._store.get_object(**parameters)
        if self.replaced:
            self.replaced = False
            self._store.put_object(Bucket=BUCKET, Key=parameters["Key"], Body=b"another version of it")
        return {**answer, "Body": Breaks(answer["Body"], self._step, self._error)}


@pytest.mark.parametrize("error", [ResponseStreamingError(error="cut"), ConnectionResetError(), None], ids=str)
def test_a_download_goes_on_where_it_broke(store: MemoryS3, clock: FakeClock, error: Exception | None) -> None:
    content = random.Random(1).randbytes(1000)
    remote = remote_on(Breaking(store, 300, error), clock)
    remote.put("name", content)
    assert remote.get("name") == content
    buffer = bytearray(700)
    assert remote.open("name").read_into(100, memoryview(buffer)) == 700 and buffer == content[100:800]
    assert remote.traffic().received_bytes == 1700


def test_a_download_never_mixes_two_versions(store: MemoryS3, clock: FakeClock) -> None:
    breaking = Breaking(store, 300, ConnectionResetError())
    remote = remote_on(breaking, clock)
    remote.put("name", bytes(1000))
    breaking.replaced = True
    assert remote.get("name") == b"another version of it"
    remote.put("name", bytes(1000))
    file = remote.open("name")
    breaking.replaced = True
    with pytest.raises(errors.Unavailable, match="replaced while it was open"):
        file.read_into(0, memoryview(bytearray(1000)))


def test_a_listing_that_does_not_go_on_is_an_error(clock: FakeClock) -> None:
    class Endless(MemoryS3):
        def list_objects_v2(self, **parameters: Any) -> dict[str, Any]:
            return {**super().list_objects_v2(**parameters), "IsTruncated": True, "NextContinuationToken": None}

    remote = remote_on(Endless(clock), clock)
    remote.put("d/name", b"")
    with pytest.raises(errors.Unavailable, match="cut off"):
        remote.list("d")


def test_a_tree_that_cannot_be_deleted_is_not_tried_for_ever(clock: FakeClock) -> None:
    class Keeps(MemoryS3):
        def delete_objects(self, **_: Any) -> dict[str, Any]:
            return {}

    remote = remote_on(Keeps(clock), clock)
    remote.put("d/one", b""), remote.put("d/two", b"")
    with pytest.raises(errors.Unavailable, match="is listed nevertheless"):
        remote.delete_tree("d")


@pytest.mark.parametrize("refusal", [refused(400, "MalformedXML"), refused(501, "NotImplemented")], ids=str)
def test_a_store_that_cannot_delete_many_deletes_one_by_one(
    store: MemoryS3, clock: FakeClock, refusal: Exception
) -> None:
    faulty = FaultyS3(store, lambda _, operation: refusal if operation == "delete_objects" else None)
    remote = remote_on(faulty, clock)
    names = [f"d/{number}" for number in range(30)]
    for name in [*names, "kept"]:
        remote.put(name, b"")
    faces.delete_many(remote, names)
    remote.delete_tree("nothing")
    assert [entry.name for entry in remote.list("")] == ["kept"]
    assert remote._deleter.form is Form.SINGLE and faulty.kinds["delete_objects"] == 2


def test_objects_that_a_store_does_not_delete_are_asked_for_again_or_told(store: MemoryS3, clock: FakeClock) -> None:
    class Partly(FaultyS3):
        answers: ClassVar[list[dict[str, Any]]] = []

        def delete_objects(self, **parameters: Any) -> dict[str, Any]:
            return self.answers.pop(0)

    partly = Partly(store)
    remote = remote_on(partly, clock)
    Partly.answers = [
        {"Errors": [{"Key": "dir/b", "Code": "SlowDown"}, {"Key": "dir/c", "Code": "NoSuchKey"}]},
        {},
        {"Errors": [{"Key": "dir/b", "Code": "AccessDenied", "Message": "no"}]},
    ]
    faces.delete_many(remote, ["a", "b", "c"])
    with pytest.raises(errors.AccessDenied, match="dir/b"):
        faces.delete_many(remote, ["a", "b"])


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(None, 64 * MIB), (0, 8 * MIB), (80_000 * MIB, 8 * MIB), (80_001 * MIB, 9 * MIB), (5 << 40, 525 * MIB)],
)
def test_parts_are_as_large_as_the_longest_object_needs(bound: int | None, expected: int) -> None:
    assert part_bytes(bound) == expected
    assert bound is None or part_bytes(bound) * PARTS_MAX >= bound


def test_an_upload_in_parts_survives_an_answer_that_got_lost(store: MemoryS3, clock: FakeClock) -> None:
    lost = [True]

    def once(_: int, operation: str) -> Exception | None:
        return ConnectionClosedError(endpoint_url="") if operation.startswith("complete") and lost.pop() else None

    lost = [False, True]
    remote = remote_on(FaultyS3(store, once, after=True), clock)
    content = random.Random(2).randbytes(20 * MIB)
    upload = faces.upload(remote, "big", bound_bytes=len(content))
    upload.write(memoryview(content))
    assert upload.finish() == len(content)
    assert remote.get("big") == content and store.uploads == {}


def test_an_upload_that_fails_leaves_no_parts(store: MemoryS3, clock: FakeClock) -> None:
    denied = lambda _, operation: refused(403, "AccessDenied") if operation == "upload_part" else None  # noqa: E731
    remote = remote_on(FaultyS3(store, denied), clock)
    upload = faces.upload(remote, "big", bound_bytes=None)
    with pytest.raises(errors.AccessDenied):
        for _ in range(10):
            upload.write(memoryview(bytes(64 * MIB)))
    upload.abort()
    assert store.uploads == {} and store.objects == {}


def test_uploads_of_a_name_are_taken_back_and_no_others(store: MemoryS3, clock: FakeClock) -> None:
    remote = remote_on(store, clock)
    for name in ("a", "a", "ab"):
        store.create_multipart_upload(Bucket=BUCKET, Key=f"dir/{name}")
    assert faces.discard_uploads(remote, "a") == 2
    assert [begun.key for begun in store.uploads.values()] == ["dir/ab"]


def test_a_store_that_locks_objects_gets_their_md5(clock: FakeClock) -> None:
    class Locks(MemoryS3):
        proven = 0

        def put_object(self, *, ContentMD5: str = "", **parameters: Any) -> dict[str, Any]:
            if not ContentMD5:
                message = "Content-MD5 HTTP header is required for Put Object requests with Object Lock parameters"
                raise refused(400, "InvalidRequest", message)
            assert base64.b64decode(ContentMD5) == hashlib.md5(parameters["Body"]).digest()
            Locks.proven += 1
            return super().put_object(**parameters)

    store = Locks(clock)
    remote = remote_on(store, clock)
    for name in ("one", "two"):
        remote.put(name, name.encode())
    assert Locks.proven == 2 and remote.traffic().requests == {"put_object": 3}


def test_a_directory_is_moved_object_by_object_and_nowhere_in_between(store: MemoryS3, clock: FakeClock) -> None:
    faulty = FaultyS3(store)
    remote = remote_on(faulty, clock)
    for number in range(20):
        remote.put(f"old/deep/{number}", b"%d" % number)
    remote.put("old-er", b"beside")
    with pytest.raises(errors.AlreadyExists):
        remote.rename("old", "old-er")
    remote.rename("old", "new/place")
    assert [remote.get(f"new/place/deep/{number}") for number in range(20)] == [b"%d" % n for n in range(20)]
    assert [entry.name for entry in remote.list("")] == ["new", "old-er"]
    assert faulty.kinds["copy_object"] == 20 and faulty.kinds["delete_objects"] == 1


class Overwrites(MemoryS3):
    """Takes the condition and does not keep it."""

    def put_object(self, *, IfNoneMatch: str = "", **parameters: Any) -> dict[str, Any]:
        return super().put_object(**parameters)


class Refuses(MemoryS3):
    """Does not know the condition."""

    def put_object(self, *, IfNoneMatch: str = "", **parameters: Any) -> dict[str, Any]:
        if IfNoneMatch:
            raise refused(501, "NotImplemented")
        return super().put_object(**parameters)


@pytest.mark.parametrize(
    ("kind", "found"),
    [(MemoryS3, Condition.KEPT), (Overwrites, Condition.IGNORED), (Refuses, Condition.REFUSED)],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_what_a_store_does_with_a_condition_is_found_out_once(
    kind: type[MemoryS3], found: Condition, clock: FakeClock
) -> None:
    store = kind(clock)
    remote = remote_on(store, clock)
    assert not remote.capabilities.conditional_put
    remote.probe()
    assert remote.capabilities.conditional_put == (found is Condition.KEPT)
    assert list(store.objects) == ["dir/.xobackup/s3.json"]
    again = remote_on(store, clock)
    again.probe()
    assert again._conditions.state is found and again.traffic().requests == {"get_object": 1}
    remote.put("name", b"first", replace=False)
    with pytest.raises(errors.AlreadyExists):
        remote.put("name", b"second", replace=False)
    assert remote.get("name") == b"first"
    elsewhere = S3Remote(S3Address(endpoint="http://other", bucket=BUCKET, prefix="dir"), store, clock=clock)
    elsewhere.probe()
    assert elsewhere.traffic().requests["put_object"] >= 2, "another way to the store is tried anew"


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[]", b'{"version": 1}', b'{"version": 9}', b"x" * 9999])
def test_a_damaged_memory_of_it_is_no_obstacle(store: MemoryS3, clock: FakeClock, raw: bytes) -> None:
    remote = remote_on(store, clock)
    remote.put(".xobackup/s3.json", raw)
    remote.probe()
    assert remote.capabilities.conditional_put


def test_the_whole_bucket_is_never_a_tree_to_delete(store: MemoryS3, clock: FakeClock) -> None:
    remote = remote_on(store, clock)
    remote.put("kept", b"")
    for name in ("", "/", ".", "../dir"):
        with pytest.raises(errors.InvalidName):
            remote.delete_tree(name)
    assert [entry.name for entry in remote.list("")] == ["kept"]


def test_names_that_no_key_can_be_are_refused(store: MemoryS3, clock: FakeClock) -> None:
    remote = remote_on(store, clock)
    for name in ("\udcff", "/".join(["x" * 250] * 4) + "/" + "y" * 20):
        with pytest.raises(errors.InvalidName):
            remote.put(name, b"")


def test_who_reads_on_gets_one_long_answer(store: MemoryS3, clock: FakeClock) -> None:
    content = random.Random(3).randbytes(10_000)
    remote = remote_on(store, clock)
    remote.put("name", content)
    file = remote.open("name")
    before = remote.traffic()
    found = bytearray()
    buffer = bytearray(1000)
    while count := file.read_into(len(found), memoryview(buffer)):
        found += buffer[:count]
    assert found == content
    assert remote.traffic().since(before).requests == {"get_object": 2}
    for offset in (5000, 0, 9000, 3000, 4000, 100):
        assert file.read_into(offset, memoryview(buffer)) == 1000 and buffer == content[offset : offset + 1000]
    file.close()


def test_a_long_answer_that_breaks_goes_on_too(store: MemoryS3, clock: FakeClock) -> None:
    content = random.Random(4).randbytes(10_000)
    remote = remote_on(Breaking(store, 700, ConnectionResetError()), clock)
    remote.put("name", content)
    file = remote.open("name")
    buffer = bytearray(600)
    for offset in range(0, 9600, 600):
        assert file.read_into(offset, memoryview(buffer)) == 600 and buffer == content[offset : offset + 600]
    file.close()
