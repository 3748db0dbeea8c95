"""S3 in memory, behind the face of boto3's client: as quick as a dictionary, so that a sweep can fail every request.

What it answers is what real stores answer (the same promises are asked of it, of Ceph's gateway and of moto). An
object is there as soon as its request is answered, and a copy of everything is cheap: :meth:`MemoryS3.snapshot`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from remotes.clock import Clock
from remotes.s3.address import S3Address
from remotes.s3.remote import S3Remote

BUCKET = "bucket"
PART_BYTES_MIN = 5 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    body: bytes
    etag: str
    modified_s: float


@dataclass(slots=True)
class Begun:
    """An upload in parts."""

    key: str
    parts: dict[int, Stored] = field(default_factory=dict)


def refused(status: int, code: str, message: str = "", operation: str = "") -> ClientError:
    """An answer that is an error."""
    error = {"Code": code, "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)  # type: ignore


class Body(io.BytesIO):
    """The body of an answer."""


class MemoryS3:
    """One bucket. ``page`` is how many names a listing gives at a time."""

    def __init__(self, clock: Clock, *, page: int = 1000) -> None:
        self._clock = clock
        self._page = page
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Begun] = {}

    def snapshot(self) -> MemoryS3:
        """An independent copy."""
        with self._lock:
            twin = MemoryS3(self._clock, page=self._page)
            twin.objects = dict(self.objects)
            twin.uploads = {key: replace(each, parts=dict(each.parts)) for key, each in self.uploads.items()}
            twin._ids = itertools.count(next(self._ids))
            return twin

    def remote(self, wrap: Callable[[Any], Any] = lambda client: client, prefix: str = "dir") -> S3Remote:
        """A remote in it. ``wrap`` puts something between them."""
        address = S3Address(endpoint="http://memory", bucket=BUCKET, prefix=prefix, parallel=4)
        return S3Remote(address, wrap(self), clock=self._clock)

    # -- boto3's face

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str = "") -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            if IfNoneMatch == "*" and Key in self.objects:
                raise refused(412, "PreconditionFailed")
            self.objects[Key] = self._stored(bytes(Body))
            return {"ETag": self.objects[Key].etag}

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", IfMatch: str = "") -> dict[str, Any]:
        with self._lock:
            found = self._object(Bucket, Key)
        if IfMatch and IfMatch != found.etag:
            raise refused(412, "PreconditionFailed")
        body, status = found.body, 200
        if Range:
            start, _, end = Range.removeprefix("bytes=").partition("-")
            if int(start) >= len(body):
                raise refused(416, "InvalidRange")
            body, status = body[int(start) : int(end) + 1], 206
        return {
            "Body": globals()["Body"](body),
            "ContentLength": len(body),
            "ETag": found.etag,
            "LastModified": _time(found.modified_s),
            "ResponseMetadata": {"HTTPStatusCode": status},
        }

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            if Key not in self.objects:
                raise refused(404, "404", "Not Found")
            found = self.objects[Key]
        return {
            "ContentLength": len(found.body),
            "ETag": found.etag,
            "LastModified": _time(found.modified_s),
        }

    def copy_object(
        self, *, Bucket: str, Key: str, CopySource: dict[str, str], MetadataDirective: str = "COPY"
    ) -> dict[str, Any]:
        with self._lock:
            found = self._object(CopySource["Bucket"], CopySource["Key"])
            if CopySource["Key"] == Key and MetadataDirective != "REPLACE":
                raise refused(400, "InvalidRequest", "copies onto itself")
            self.objects[Key] = self._stored(found.body)
            return {"CopyObjectResult": {"ETag": found.etag}}

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            self.objects.pop(Key, None)
        return {}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        assert 0 < len(Delete["Objects"]) <= 1000
        with self._lock:
            self._check(Bucket)
            for each in Delete["Objects"]:
                self.objects.pop(each["Key"], None)
        return {}

    def list_objects_v2(
        self,
        *,
        Bucket: str,
        Prefix: str = "",
        Delimiter: str = "",
        MaxKeys: int = 1000,
        ContinuationToken: str = "",
    ) -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            keys = sorted(key for key in self.objects if key.startswith(Prefix))
            rows: dict[str, Stored | None] = {}
            for key in keys:
                head, slash, _ = key[len(Prefix) :].partition(Delimiter) if Delimiter else (key, "", "")
                name = Prefix + head + slash if slash else key
                rows[name] = None if slash else self.objects[key]
        names = [name for name in rows if name > ContinuationToken]
        page = names[: min(MaxKeys, self._page)]
        answer: dict[str, Any] = {"IsTruncated": len(page) < len(names)}
        answer["Contents"] = [
            {"Key": name, "Size": len(found.body), "LastModified": _time(found.modified_s)}
            for name in page
            if (found := rows[name]) is not None
        ]
        answer["CommonPrefixes"] = [{"Prefix": name} for name in page if rows[name] is None]
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = page[-1]
        return answer

    def create_multipart_upload(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            upload_id = f"upload-{next(self._ids)}"
            self.uploads[upload_id] = Begun(Key)
        return {"UploadId": upload_id}

    def upload_part(self, *, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes) -> dict[str, Any]:
        with self._lock:
            begun = self._begun(Bucket, Key, UploadId)
            begun.parts[PartNumber] = self._stored(bytes(Body))
            return {"ETag": begun.parts[PartNumber].etag}

    def complete_multipart_upload(
        self, *, Bucket: str, Key: str, UploadId: str, MultipartUpload: dict[str, Any]
    ) -> dict[str, Any]:
        with self._lock:
            begun = self._begun(Bucket, Key, UploadId)
            bodies = []
            for part in MultipartUpload["Parts"]:
                found = begun.parts.get(part["PartNumber"])
                if found is None or found.etag != part["ETag"]:
                    raise refused(400, "InvalidPart")
                bodies.append(found.body)
            if any(len(body) < PART_BYTES_MIN for body in bodies[:-1]):
                raise refused(400, "EntityTooSmall")
            self.objects[Key] = self._stored(b"".join(bodies))
            del self.uploads[UploadId]
        return {}

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> dict[str, Any]:
        with self._lock:
            self._begun(Bucket, Key, UploadId)
            del self.uploads[UploadId]
        return {}

    def list_multipart_uploads(self, *, Bucket: str, Prefix: str = "") -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            found = [
                {"Key": each.key, "UploadId": upload_id}
                for upload_id, each in self.uploads.items()
                if each.key.startswith(Prefix)
            ]
        return {"Uploads": found, "IsTruncated": False}

    def get_bucket_versioning(self, *, Bucket: str) -> dict[str, Any]:
        self._check(Bucket)
        return {}

    def get_object_lock_configuration(self, *, Bucket: str) -> dict[str, Any]:
        self._check(Bucket)
        raise refused(404, "ObjectLockConfigurationNotFoundError")

    # -- inside

    def _stored(self, body: bytes) -> Stored:
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        return Stored(body, etag, float(int(self._clock.now_s())))  # whole seconds, as stores tell them

    def _object(self, bucket: str, key: str) -> Stored:
        self._check(bucket)
        if key not in self.objects:
            raise refused(404, "NoSuchKey")
        return self.objects[key]

    def _begun(self, bucket: str, key: str, upload_id: str) -> Begun:
        self._check(bucket)
        found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise refused(404, "NoSuchUpload")
        return found

    def _check(self, bucket: str) -> None:
        if bucket != BUCKET:
            raise refused(404, "NoSuchBucket")


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
