"""An object of any length written in order: in one request while it is short, else in parts of one size.

The size of a part follows from the longest that the object can get, since there may be at most ten thousand of them;
all but the last are equally long, as some stores demand. A few parts are under way at a time: what they hold is the
bound on memory. The object has its name only when all parts are there and the store knows their length.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from remotes import errors
from remotes.s3.locking import Locker
from remotes.s3.requester import Requester

MIB = 1 << 20
PARTS_MAX = 10_000
PART_BYTES_MIN = 8 * MIB
PART_BYTES_MAX = 5 << 30
PART_BYTES_UNKNOWN = 64 * MIB
"""Of objects whose length nobody bounds: up to 625 GiB."""
UNDER_WAY_BYTES = 96 * MIB
UNDER_WAY_MAX = 4


def part_bytes(bound_bytes: int | None) -> int:
    """How long each part of an object of at most ``bound_bytes`` is."""
    if bound_bytes is None:
        return PART_BYTES_UNKNOWN
    needed = -(-bound_bytes // PARTS_MAX)
    return min(max(-(-needed // MIB) * MIB, PART_BYTES_MIN), PART_BYTES_MAX)


class S3Upload:
    """One object, written by one thread at a time. See :class:`remotes.faces.Upload`."""

    def __init__(self, locker: Locker, key: str, name: str, *, bound_bytes: int | None) -> None:
        self._requester = locker.requester
        self._locker = locker
        self._key = key
        self._name = name
        self._part_bytes = part_bytes(bound_bytes)
        self._under_way_max = max(1, min(UNDER_WAY_MAX, UNDER_WAY_BYTES // self._part_bytes))
        self._part = bytearray()
        self._size = 0
        self._upload_id = ""
        self._etags: list[Future[str]] = []
        self._under_way: deque[Future[str]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._done = False

    def write(self, data: memoryview) -> None:
        """Append; waits while enough parts are under way."""
        view = data.cast("B")
        while view:
            room = self._part_bytes - len(self._part)
            self._part += view[:room]
            self._size += min(room, len(view))
            view = view[room:]
            if len(self._part) == self._part_bytes:
                self._send()

    def finish(self) -> int:
        """Put the object together; returns its length as the store knows it."""
        if not self._upload_id:
            self._locker.put(self._name, Key=self._key, Body=bytes(self._part))
        else:
            if self._part:
                self._send()
            parts = [{"PartNumber": number, "ETag": each.result()} for number, each in enumerate(self._etags, 1)]
            self._requester.call(
                "complete_multipart_upload",
                self._name,
                settle=self._completed,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},
            )
        head = self._head()
        length = int(head["ContentLength"])
        self._done = True
        self._close()
        if length != self._size:
            problem = f"expected {self._size} bytes in the store, found {length}"
            raise errors.Unavailable(self._requester.url, self._name, problem, transient=False)
        self._locker.ensure(self._name, self._key, head)
        return length

    def abort(self) -> None:
        """Take back the parts."""
        self._close()
        self._part = bytearray()
        if self._upload_id and not self._done:
            abort_upload(self._requester, self._key, self._name, self._upload_id)
            self._upload_id = ""

    def _send(self) -> None:
        """Send the part that is full, or the last one."""
        number = len(self._etags) + 1
        if number > PARTS_MAX:
            limit = PARTS_MAX * self._part_bytes
            raise errors.NotSupported(
                self._requester.url, self._name, f"longer than announced: {PARTS_MAX} parts hold {limit} bytes"
            )
        if not self._upload_id:
            answer = self._locker.call("create_multipart_upload", self._name, Key=self._key)
            self._upload_id = str(answer["UploadId"])
            self._pool = ThreadPoolExecutor(self._under_way_max, thread_name_prefix="part")
        assert self._pool is not None
        body, self._part = self._part, bytearray()
        while len(self._under_way) >= self._under_way_max:
            self._under_way.popleft().result()
        self._etags.append(self._pool.submit(self._upload_part, number, body))
        self._under_way.append(self._etags[-1])

    def _upload_part(self, number: int, body: bytearray) -> str:
        answer = self._requester.call(
            "upload_part", self._name, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=body
        )
        return str(answer["ETag"])

    def _completed(self, error: errors.RemoteError) -> object:
        """An earlier attempt may have come through: then the upload is gone and the object is there."""
        with contextlib.suppress(errors.NotFound):
            if int(self._head()["ContentLength"]) == self._size:
                return None
        raise error

    def _head(self) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._requester.call("head_object", self._name, Key=self._key)
        return answer

    def _close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.shutdown(cancel_futures=True)


def abort_upload(requester: Requester, key: str, name: str, upload_id: str) -> None:
    """Take back the parts of one upload. One that is gone is fine."""
    with contextlib.suppress(errors.NotFound):
        requester.call("abort_multipart_upload", name, Key=key, UploadId=upload_id)


def unfinished(requester: Requester, key: str, name: str) -> list[str]:
    """Ids of the uploads of exactly this key that were begun and not finished."""
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        answer = requester.call("list_multipart_uploads", name, Prefix=key, **more)
        found += [str(each["UploadId"]) for each in answer.get("Uploads", []) if each["Key"] == key]
        if not answer.get("IsTruncated") or not answer.get("NextKeyMarker"):
            return found
        more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer.get("NextUploadIdMarker", "")}
