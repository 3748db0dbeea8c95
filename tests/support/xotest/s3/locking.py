"""The store in memory again, with what a bucket with object lock does: versions, marks of deletions, retentions.

As Ceph's gateway does it (``tests/remotes/s3/test_locking.py`` asks both the same): deleting without a version puts a
mark; a version under compliance or a legal hold cannot be deleted, one under governance only by who may bypass it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remotes.clock import Clock
from remotes.s3.address import S3Address
from remotes.s3.locking import ObjectLock
from remotes.s3.remote import S3Remote
from xotest.s3.memory import BUCKET, MemoryS3, Stored, _time, refused

MONTH_S = 30 * 86_400.0


@dataclass(slots=True, kw_only=True)
class Kept:
    """A version; ``stored`` is ``None`` for a mark of a deletion."""

    id: str
    stored: Stored | None
    modified_s: float
    mode: str = ""
    until: datetime | None = None


class LockingS3(MemoryS3):
    """One bucket with object lock. ``default``: mode and days of its default retention."""

    def __init__(self, clock: Clock, *, page: int = 1000, default: tuple[str, int] | None = None) -> None:
        super().__init__(clock, page=page)
        self.default = default
        self.versions: dict[str, list[Kept]] = {}
        self.begun_terms: dict[str, dict[str, Any]] = {}
        self.tells = True
        """Whether the key may see retentions."""

    def locked(self, lock: ObjectLock | None, wrap: Callable[[Any], Any] = lambda client: client) -> S3Remote:
        """A remote in it that locks what is put."""
        address = S3Address(endpoint="http://memory", bucket=BUCKET, prefix="dir", parallel=4)
        remote = S3Remote(address, wrap(self), clock=self._clock, lock=lock)
        remote.check()
        return remote

    def put_object(self, *, ContentMD5: str = "", **parameters: Any) -> dict[str, Any]:
        terms = _terms(parameters)
        if terms and not ContentMD5:
            raise refused(400, "InvalidRequest", "Content-MD5 HTTP header is required with Object Lock parameters")
        with self._lock:
            answer = super().put_object(**parameters)
            self._keep(parameters["Key"], terms)
        return answer

    def copy_object(self, **parameters: Any) -> dict[str, Any]:
        terms, source = _terms(parameters), dict(parameters["CopySource"])
        version = source.pop("VersionId", "")
        with self._lock:
            if version:
                found = self._version(source["Key"], version).stored
                assert found is not None
                self.objects[parameters["Key"]] = self._stored(found.body)
                answer: dict[str, Any] = {"CopyObjectResult": {"ETag": found.etag}}
            else:
                answer = super().copy_object(**{**parameters, "CopySource": source})
            self._keep(parameters["Key"], terms)
        return answer

    def create_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        terms = _terms(parameters)
        answer = super().create_multipart_upload(**parameters)
        self.begun_terms[answer["UploadId"]] = terms
        return answer

    def upload_part(self, *, ContentMD5: str = "", **parameters: Any) -> dict[str, Any]:
        return super().upload_part(**parameters)

    def upload_part_copy(
        self, *, CopySource: dict[str, str], CopySourceRange: str, **parameters: Any
    ) -> dict[str, Any]:
        start, _, end = CopySourceRange.removeprefix("bytes=").partition("-")
        body = self.objects[CopySource["Key"]].body[int(start) : int(end) + 1]
        return {"CopyPartResult": super().upload_part(**parameters, Body=body)}

    def complete_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        with self._lock:
            answer = super().complete_multipart_upload(**parameters)
            self._keep(parameters["Key"], self.begun_terms.pop(parameters["UploadId"], {}))
        return answer

    def delete_object(self, *, Bucket: str, Key: str, VersionId: str = "") -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            if not VersionId:
                self.objects.pop(Key, None)
                self._mark(Key)
                return {"DeleteMarker": True}
            found = self._version(Key, VersionId)
            if found.until is not None and found.until.timestamp() > self._clock.now_s():
                raise refused(403, "AccessDenied", "forbidden by object lock")
            self.versions[Key].remove(found)
            newest = self.versions[Key][0].stored if self.versions[Key] else None
            self.objects.pop(Key, None)
            if newest is not None:
                self.objects[Key] = newest
        return {}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        for each in Delete["Objects"]:
            self.delete_object(Bucket=Bucket, Key=each["Key"])
        return {}

    def head_object(self, *, Bucket: str, Key: str, VersionId: str = "") -> dict[str, Any]:
        with self._lock:
            kept = self._version(Key, VersionId) if VersionId else (self.versions.get(Key) or [None])[0]
            if kept is None or kept.stored is None:
                raise refused(404, "404", "Not Found")
            answer: dict[str, Any] = {
                "ContentLength": len(kept.stored.body),
                "ETag": kept.stored.etag,
                "LastModified": _time(kept.modified_s),
            }
            if kept.until is not None and self.tells:
                answer |= {"ObjectLockMode": kept.mode, "ObjectLockRetainUntilDate": kept.until}
        return answer

    def get_object(self, *, VersionId: str = "", **parameters: Any) -> dict[str, Any]:
        if not VersionId:
            return super().get_object(**parameters)
        with self._lock:
            found = self._version(parameters["Key"], VersionId).stored
            if found is None:
                raise refused(405, "MethodNotAllowed")
            now = dict(self.objects)
            self.objects[parameters["Key"]] = found
            try:
                return super().get_object(**parameters)
            finally:
                self.objects = now

    def put_object_retention(self, *, Bucket: str, Key: str, Retention: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            kept = self.versions[Key][0]
            if kept.until is not None and Retention["RetainUntilDate"] < kept.until:
                raise refused(403, "AccessDenied", "forbidden by object lock")
            kept.mode, kept.until = Retention["Mode"], Retention["RetainUntilDate"]
        return {}

    def list_object_versions(
        self, *, Bucket: str, Prefix: str = "", Delimiter: str = "", KeyMarker: str = "", VersionIdMarker: str = ""
    ) -> dict[str, Any]:
        with self._lock:
            self._check(Bucket)
            rows: list[tuple[str, int, Kept | None]] = []
            for key in sorted(key for key in self.versions if key.startswith(Prefix)):
                head, slash, _ = key[len(Prefix) :].partition(Delimiter) if Delimiter else (key, "", "")
                if slash:
                    if not rows or rows[-1][0] != Prefix + head + slash:
                        rows.append((Prefix + head + slash, 0, None))
                    continue
                rows += [(key, at, kept) for at, kept in enumerate(self.versions[key])]
        at = next((n for n, row in enumerate(rows) if f"{row[0]}#{row[1]}" == f"{KeyMarker}#{VersionIdMarker}"), -1)
        page, left = rows[at + 1 : at + 1 + self._page], len(rows) - at - 1 - self._page
        answer: dict[str, Any] = {"IsTruncated": left > 0, "Versions": [], "DeleteMarkers": [], "CommonPrefixes": []}
        for key, number, kept in page:
            if kept is None:
                answer["CommonPrefixes"].append({"Prefix": key})
                continue
            common = {
                "Key": key,
                "VersionId": kept.id,
                "LastModified": _time(kept.modified_s),
                "IsLatest": number == 0,
            }
            if kept.stored is None:
                answer["DeleteMarkers"].append(common)
            else:
                answer["Versions"].append({**common, "Size": len(kept.stored.body), "ETag": kept.stored.etag})
        if left > 0:
            answer |= {"NextKeyMarker": page[-1][0], "NextVersionIdMarker": str(page[-1][1])}
        return answer

    def get_bucket_versioning(self, *, Bucket: str) -> dict[str, Any]:
        return {"Status": "Enabled"}

    def get_object_lock_configuration(self, *, Bucket: str) -> dict[str, Any]:
        self._check(Bucket)
        found: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
        if self.default is not None:
            found["Rule"] = {"DefaultRetention": {"Mode": self.default[0], "Days": self.default[1]}}
        return {"ObjectLockConfiguration": found}

    def _keep(self, key: str, terms: dict[str, Any]) -> None:
        now_s = self._clock.now_s()
        if not terms and self.default is not None:
            terms = {"mode": self.default[0], "until": _time(now_s + self.default[1] * 86_400)}
        kept = Kept(id=f"v{next(self._ids)}", stored=self.objects[key], modified_s=float(int(now_s)), **terms)
        self.versions.setdefault(key, []).insert(0, kept)

    def _mark(self, key: str) -> None:
        kept = Kept(id=f"v{next(self._ids)}", stored=None, modified_s=float(int(self._clock.now_s())))
        self.versions.setdefault(key, []).insert(0, kept)

    def _version(self, key: str, version: str) -> Kept:
        found = next((kept for kept in self.versions.get(key, []) if kept.id == version), None)
        if found is None:
            raise refused(404, "NoSuchVersion")
        return found


def _terms(parameters: dict[str, Any]) -> dict[str, Any]:
    """Take the lock out of a request's parameters."""
    mode, until = parameters.pop("ObjectLockMode", ""), parameters.pop("ObjectLockRetainUntilDate", None)
    return {"mode": mode, "until": until} if mode else {}
