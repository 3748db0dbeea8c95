"""A bucket, or a directory in one, as a remote. See :mod:`remotes.contract` for the MUSTs and how they are kept:

* an object is put whole, or not at all; a store that answers has it for good;
* a listing goes to its end, or raises; there are directories only where there are objects below them;
* a rename is a copy and then a deletion: at no instant is the object nowhere;
* a name that must be free is refused by the store itself where it keeps ``If-None-Match`` (:mod:`.conditions`); where
  it does not, somebody who takes the name at the same moment is not noticed (``conditional_put`` says so).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from remotes import errors, names
from remotes.clock import Clock
from remotes.contract import Buffer, Capabilities, Entry, Kind, Usage, WritableFile
from remotes.faces import Once, Protection, Remark, Traffic
from remotes.retrying import RetryPolicy
from remotes.s3.address import S3Address
from remotes.s3.client import make_client
from remotes.s3.conditions import Condition, Conditions
from remotes.s3.copying import copy_object
from remotes.s3.deleting import BATCH, Deleter, Form
from remotes.s3.keys import Keys
from remotes.s3.locking import BucketLock, Locker, ObjectLock, bucket_lock, protection_of, require_lock
from remotes.s3.past import S3Past, require_versions
from remotes.s3.reading import S3File, get_object
from remotes.s3.remarks import remarks_of
from remotes.s3.requester import HASTY, PATIENT, Requester
from remotes.s3.uploading import S3Upload, abort_upload, unfinished
from remotes.s3.versions import pages, versions_in


class S3Remote:
    """See the module's head. ``client`` is boto3's, or like it."""

    def __init__(
        self,
        address: S3Address,
        client: Any,
        *,
        clock: Clock | None = None,
        policy: RetryPolicy = PATIENT,
        lock: ObjectLock | None = None,
    ) -> None:
        """``lock``: what is put is locked."""
        self.address = address
        proves = lock is not None and not address.amazon  # Amazon's gets a CRC-32 of everything anyway
        self._requester = Requester(client, address.bucket, address.shown, policy=policy, clock=clock, proves=proves)
        self._locker = Locker(self._requester, lock)
        self._keys = Keys(address.prefix, address.shown)
        self._conditions = Conditions(self._locker, self._keys, address.endpoint)
        self._bucket_lock: BucketLock | None = None
        self._deleter = Deleter(self._requester, first=Form.CRC32 if address.amazon else Form.MD5)

    @classmethod
    def connect(cls, address: S3Address, lock: ObjectLock | None = None) -> S3Remote:
        """Ask the store for a first key, so that what is wrong with the way in is known at once."""
        remote = cls(address, make_client(address), lock=lock)
        remote.check()
        return remote

    def check(self) -> None:
        """Raise when the bucket cannot be listed, or cannot lock although it should."""
        prefix = self._keys.below("")
        self._requester.call("list_objects_v2", policy=HASTY, Prefix=prefix, MaxKeys=1)
        if self._locker.lock is not None:
            self._bucket_lock = require_lock(self._requester, self._locker.lock)

    @property
    def url(self) -> str:
        return self.address.shown

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            random_access=False,
            atomic_rename=False,
            exclusive_directories=False,
            range_copy=False,
            durable=True,
            hierarchical=False,
            keeps_versions=self._locker.lock is not None,
            conditional_put=self._conditions.state is Condition.KEPT,
            parallel=self.address.parallel,
        )

    def probe(self) -> None:
        self._conditions.find_out()

    def traffic(self) -> Traffic:
        return self._requester.traffic()

    def remarks(self) -> Sequence[Remark]:
        condition = self._conditions.look()
        verified, prefix = self.address.verify, self._keys.below("")
        return list(remarks_of(self._requester, condition, self._locker.lock, verified=verified, prefix=prefix))

    def protection(self, name: str) -> Protection | None:
        """Asked of the object itself, where the bucket locks any."""
        if not self._lock_of_bucket().enabled:
            return None
        try:
            return protection_of(self._requester.call("head_object", name, Key=self._keys.key(name)))
        except errors.NotFound:
            return None

    def relock(self, names: Sequence[str]) -> None:
        for name in names:
            terms = self._locker.terms(name)
            if not terms:
                continue
            mode, until = terms["ObjectLockMode"], terms["ObjectLockRetainUntilDate"]
            found = self.protection(name)
            if found is not None and found.until_s is not None:
                if found.until_s >= until.timestamp():
                    continue
                mode = "COMPLIANCE" if found.mode == "compliance" else mode  # it cannot become less strict
            retention = {"Mode": mode, "RetainUntilDate": until}
            self._requester.call("put_object_retention", name, Key=self._keys.key(name), Retention=retention)

    def as_of(self, time_s: float) -> S3Past:
        require_versions(self._requester)
        return S3Past(self._locker, self._keys, time_s=time_s, url=self.url, parallel=self.address.parallel)

    def versions(self, directory: str, pattern: str) -> Sequence[Once]:
        require_versions(self._requester)
        return list(versions_in(self._requester, self._keys, directory, pattern))

    def ever(self, directory: str) -> Sequence[str]:
        require_versions(self._requester)
        below = self._keys.below(directory)
        found = pages(self._requester, directory, prefix=below, delimiter="/")
        return sorted({each[len(below) : -1] for page in found for each in page.directories} - {""})

    def _lock_of_bucket(self) -> BucketLock:
        if self._bucket_lock is None:
            try:
                self._bucket_lock = bucket_lock(self._requester)
            except errors.AccessDenied:  # may not be asked: objects may be locked all the same
                self._bucket_lock = BucketLock(enabled=True)
        return self._bucket_lock

    def list(self, directory: str) -> list[Entry]:
        names.validate_directory(directory, remote=self.url)
        below = self._keys.below(directory)
        entries: list[Entry] = []
        there = not directory
        for page in self._pages(directory, Prefix=below, Delimiter="/"):
            for found in page.get("Contents", []):
                there = True
                if base := found["Key"][len(below) :]:  # else a mark that some programs make for a directory
                    entries.append(_entry(base, found["Size"], found["LastModified"]))
            for found in page.get("CommonPrefixes", []):
                there = True
                if base := found["Prefix"][len(below) : -1]:
                    entries.append(_directory(base))
        if not there:
            raise errors.NotFound(self.url, directory)
        return sorted(entries, key=lambda entry: entry.name)

    def stat(self, name: str) -> Entry:
        names.validate_directory(name, remote=self.url)
        if not name:
            self.check()
            return _directory(name)
        try:
            found = self._requester.call("head_object", name, Key=self._keys.key(name))
        except errors.NotFound:
            if self._is_directory(name):
                return _directory(name)
            raise
        return _entry(name, found["ContentLength"], found["LastModified"])

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return get_object(self._requester, self._keys, name, limit_bytes)

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        body = data if isinstance(data, bytes) else bytes(memoryview(data).cast("B"))
        key = self._keys.key(name)
        if replace:
            self._locker.put(name, Key=key, Body=body)
        else:
            self._conditions.put(name, body)

    def open(self, name: str) -> S3File:
        return S3File(self._requester, self._keys, name)

    def create(self, name: str) -> WritableFile:
        self._keys.key(name)
        self._whole_objects_only(name)

    def update(self, name: str) -> WritableFile:
        self.stat(name)
        self._whole_objects_only(name)

    def upload(self, name: str, *, bound_bytes: int | None) -> S3Upload:
        return S3Upload(self._locker, self._keys.key(name), name, bound_bytes=bound_bytes)

    def discard_uploads(self, name: str) -> int:
        key = self._keys.key(name)
        found = unfinished(self._requester, key, name)
        for upload_id in found:
            abort_upload(self._requester, key, name, upload_id)
        return len(found)

    def copy(self, old: str, new: str) -> None:
        copy_object(self._locker, self._keys, old, new)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self._keys.key(old), self._keys.key(new)
        if new.startswith(f"{old}/"):
            raise errors.InvalidName(self.url, new, f"cannot move {old!r} into itself")
        if self.stat(old).kind is Kind.DIRECTORY:
            self._rename_directory(old, new)
            return
        if not replace and self._exists(new):
            raise errors.AlreadyExists(self.url, new)
        self.copy(old, new)
        self._requester.call("delete_object", old, Key=self._keys.key(old))

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        key = self._keys.key(name)
        if not missing_ok:
            self._requester.call("head_object", name, Key=key)
        self._requester.call("delete_object", name, Key=key)

    def delete_many(self, names: Sequence[str]) -> None:
        self._deleter.delete([self._keys.key(name) for name in names])

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        """There is nothing to make."""
        self._keys.key(name)
        if not exist_ok:
            raise errors.NotSupported(self.url, name, "the store has no directories of their own")

    def remove_directory(self, name: str) -> None:
        self._keys.key(name)
        if not self._is_directory(name):
            raise errors.NotFound(self.url, name)
        raise errors.DirectoryNotEmpty(self.url, name)

    def delete_tree(self, name: str) -> None:
        """Page by page; each page is listed from the beginning, so that the last one proves that nothing is left."""
        below = f"{self._keys.key(name)}/"
        seen = ""
        while True:
            page = self._requester.call("list_objects_v2", name, Prefix=below, MaxKeys=BATCH)
            keys = [found["Key"] for found in page.get("Contents", [])]
            if not keys:
                return
            if keys[0] == seen:
                problem = f"{self._keys.name(seen)} was deleted, and is listed nevertheless"
                raise errors.Unavailable(self.url, name, problem, transient=True)
            seen = keys[0]
            self._deleter.delete(keys)

    def touch(self, name: str) -> float:
        key = self._keys.key(name)
        source = {"Bucket": self.address.bucket, "Key": key}
        self._locker.call("copy_object", name, Key=key, CopySource=source, MetadataDirective="REPLACE")
        return self.stat(name).modified_s

    def usage(self) -> Usage | None:
        """No store says."""
        return None

    def close(self) -> None:
        close = getattr(self._requester.client, "close", None)
        if close is not None:
            close()

    def _pages(self, name: str, **what: Any) -> Iterator[dict[str, Any]]:
        """Every page of a listing, or an error."""
        more: dict[str, Any] = {}
        while True:
            page = self._requester.call("list_objects_v2", name, **what, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == more.get("ContinuationToken"):
                problem = "the listing is cut off, and the store does not say where it goes on"
                raise errors.Unavailable(self.url, name, problem, transient=False)
            more = {"ContinuationToken": token}

    def _rename_directory(self, old: str, new: str) -> None:
        if self._exists(new):
            raise errors.AlreadyExists(self.url, new)
        below = self._keys.below(old)
        keys = [found["Key"] for page in self._pages(old, Prefix=below) for found in page.get("Contents", [])]
        with ThreadPoolExecutor(self.address.parallel, thread_name_prefix="copy") as pool:
            for copied in [
                pool.submit(self.copy, self._keys.name(key), names.join(new, key[len(below) :])) for key in keys
            ]:
                copied.result()
        self._deleter.delete(keys)

    def _exists(self, name: str) -> bool:
        try:
            self.stat(name)
        except errors.NotFound:
            return False
        return True

    def _is_directory(self, name: str) -> bool:
        page = self._requester.call("list_objects_v2", name, Prefix=self._keys.below(name), MaxKeys=1)
        return bool(page.get("Contents"))

    def _whole_objects_only(self, name: str) -> NoReturn:
        raise errors.NotSupported(self.url, name, "the store takes whole objects only")


def _entry(name: str, size: int, modified: Any) -> Entry:
    return Entry(name=name, kind=Kind.FILE, size_bytes=int(size), modified_s=modified.timestamp())


def _directory(name: str) -> Entry:
    return Entry(name=name, kind=Kind.DIRECTORY, size_bytes=0, modified_s=0.0)
