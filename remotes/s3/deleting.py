"""Many objects deleted at once, in the form that the store understands.

``DeleteObjects`` has to prove its body. Amazon takes a CRC-32, which is what boto3 sends; older stores know only
``Content-MD5`` and answer 400 to anything else; some do not have the request at all. The first form that works is
kept. The answer names each object that is not gone: those are asked for again, or raised.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any

from remotes import errors
from remotes.s3.failures import TRANSIENT_CODES, answered
from remotes.s3.requester import Requester

BATCH = 1000
"""The most names a request may have."""
SINGLE_WORKERS = 16


class Form(Enum):
    """How a batch is sent, in the order they are tried."""

    MD5 = "Content-MD5"
    CRC32 = "x-amz-checksum-crc32"
    SINGLE = "one by one"


class Deleter:
    """Several threads at once."""

    def __init__(self, requester: Requester, *, first: Form = Form.MD5) -> None:
        self._requester = requester
        self._forms = [first, *(form for form in Form if form is not first)]
        events = getattr(getattr(requester.client, "meta", None), "events", None)
        if events is not None:
            events.register("before-sign.s3.DeleteObjects", self._prove)

    @property
    def form(self) -> Form:
        """The one in use."""
        return self._forms[0]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects by key; missing ones are fine. Raises unless all are gone."""
        for start in range(0, len(keys), BATCH):
            self._delete_batch(list(keys[start : start + BATCH]))

    def _delete_batch(self, keys: list[str]) -> None:
        while self.form is not Form.SINGLE and len(keys) > 1:
            form = self.form
            try:
                self._requester.persist(lambda: self._ask(keys))
                return
            except (errors.Unavailable, errors.NotSupported) as error:
                if not _not_understood(error):
                    raise
                if self._forms[0] is form:
                    self._forms.pop(0)
        with ThreadPoolExecutor(min(SINGLE_WORKERS, len(keys)), thread_name_prefix="delete") as pool:
            list(pool.map(lambda key: self._requester.call("delete_object", key, Key=key), keys))

    def _ask(self, keys: list[str]) -> None:
        """One request; ``keys`` loses what is gone, so that another attempt asks only for the rest."""
        objects = [{"Key": key} for key in keys]
        answer = self._requester.once("delete_objects", keys[0], Delete={"Objects": objects, "Quiet": True})
        failed = [each for each in answer.get("Errors", []) if each.get("Code") != "NoSuchKey"]
        left = {str(each.get("Key")) for each in failed}
        if not failed:
            keys.clear()
            return
        keys[:] = [key for key in keys if key in left]
        worst = next((each for each in failed if each.get("Code") not in TRANSIENT_CODES), failed[0])
        raise answered({"Error": worst}, self._requester.url, str(worst.get("Key", "")))

    def _prove(self, request: Any, **_: object) -> None:
        """Replace the CRC-32 that boto3 has put there by an MD5."""
        if self.form is not Form.MD5:
            return
        body = request.body or b""
        raw = body if isinstance(body, bytes) else body.read()
        for header in list(request.headers.keys()):
            if header.lower().startswith("x-amz-checksum-") or header.lower() == "x-amz-sdk-checksum-algorithm":
                del request.headers[header]
        digest = hashlib.md5(raw, usedforsecurity=False).digest()
        del request.headers["Content-MD5"]  # setting adds another, and two are refused (a client of two remotes)
        request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _not_understood(error: errors.RemoteError) -> bool:
    """Whether another form may do better: the request itself was refused, not an object."""
    if isinstance(error, errors.NotSupported):
        return True
    codes = ("MalformedXML", "InvalidRequest", "InvalidDigest", "BadRequest", "MissingContentMD5", "InvalidArgument")
    return any(code in error.problem for code in (*codes, "MissingRequiredHeader", "AuthorizationQuery", ": 400"))
