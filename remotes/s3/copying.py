"""A copy made by the store: in one request up to 5 GiB, in parts above."""

from __future__ import annotations

from remotes import errors
from remotes.s3.keys import Keys
from remotes.s3.locking import Locker
from remotes.s3.uploading import abort_upload

WHOLE_BYTES_MAX = 5 << 30
PART_BYTES = 1 << 30
_TOO_LONG = ("InvalidRequest", "EntityTooLarge", "InvalidArgument")


def copy_object(locker: Locker, keys: Keys, old: str, new: str) -> None:
    """Make ``new`` a copy of ``old``, replacing it. Only an object too long for one request costs more than one."""
    requester = locker.requester
    source = {"Bucket": requester.bucket, "Key": keys.key(old)}
    try:
        locker.copy(new, error_name=old, Key=keys.key(new), CopySource=source)
        locker.ensure(new, keys.key(new))
    except errors.Unavailable as error:
        if not any(code in error.problem for code in _TOO_LONG):
            raise
        size = int(requester.call("head_object", old, Key=keys.key(old))["ContentLength"])
        if size <= WHOLE_BYTES_MAX:
            raise
        _copy_in_parts(locker, keys, old, new, size)


def _copy_in_parts(locker: Locker, keys: Keys, old: str, new: str, size: int) -> None:
    requester = locker.requester
    source, key = {"Bucket": requester.bucket, "Key": keys.key(old)}, keys.key(new)
    upload_id = locker.call("create_multipart_upload", new, Key=key)["UploadId"]
    try:
        parts = []
        for number, start in enumerate(range(0, size, PART_BYTES), 1):
            answer = requester.call(
                "upload_part_copy",
                old,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource=source,
                CopySourceRange=f"bytes={start}-{min(start + PART_BYTES, size) - 1}",
            )
            parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        requester.call(
            "complete_multipart_upload", new, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
    except BaseException:
        abort_upload(requester, key, new, upload_id)
        raise
    head = requester.call("head_object", new, Key=key)
    if int(head["ContentLength"]) != size:
        problem = f"expected a copy of {size} bytes, found {head['ContentLength']}"
        raise errors.Unavailable(requester.url, new, problem, transient=False)
    locker.ensure(new, key, head)
