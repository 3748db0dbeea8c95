"""One request to the store: counted, repeated when that may help, its failure explained.

An answer that may be another next time (busy, failing, a broken connection) is waited out with full jitter, up to the
:class:`~remotes.retrying.RetryPolicy`. After that the error is not ``transient`` any more: whoever hears of it need
not begin again.
"""

from __future__ import annotations

import base64
import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from remotes import errors
from remotes.clock import Clock, SystemClock
from remotes.faces import Traffic
from remotes.retrying import Retrier, RetryPolicy
from remotes.s3.failures import network_errors, translate

T = TypeVar("T")


PATIENT = RetryPolicy(attempts_max=12, first_pause_s=0.2, pause_max_s=20.0, budget_s=180.0)
"""A store that restarts, or asks to slow down, gets three minutes."""
HASTY = RetryPolicy(attempts_max=3, first_pause_s=0.2, pause_max_s=2.0, budget_s=5.0)
"""At the very beginning a wrong address is likelier than a store that restarts."""
SIGNS = {
    "list_objects_v2": "IsTruncated",
    "get_object": "ETag",
    "head_object": "ETag",
    "put_object": "ETag",
    "upload_part": "ETag",
    "copy_object": "CopyObjectResult",
    "create_multipart_upload": "UploadId",
}
"""What a store's answer always has. A proxy that answers 200 with a page of its own would be taken for an empty
listing otherwise, or its page for an object."""


class Requester:
    """Shared by everything that speaks to one bucket; several threads at once. ``client`` is boto3's, or like it."""

    def __init__(
        self,
        client: Any,
        bucket: str,
        url: str,
        *,
        policy: RetryPolicy = PATIENT,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        proves: bool = False,
    ) -> None:
        """``proves``: bodies go with their MD5 from the beginning."""
        self.client = client
        self.bucket = bucket
        self.url = url
        self.clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._policy = policy
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._sent = 0
        self._received = 0
        self._repeated = 0
        self._network = network_errors()
        self._proves = proves
        """Whether bodies go with their MD5: only stores that lock objects ask for it, and it takes its time."""

    def call(
        self,
        operation: str,
        name: str = "",
        *,
        settle: Callable[[errors.RemoteError], Any] | None = None,
        policy: RetryPolicy | None = None,
        **parameters: Any,
    ) -> Any:
        """The answer. ``operation`` as boto3 names it, ``name`` what errors name; the bucket is filled in.

        ``settle`` decides about a lasting error of a *later* attempt, whose first may have been done after all.
        """
        return self.persist(lambda: self.once(operation, name, **parameters), settle, policy)

    def once(self, operation: str, name: str = "", **parameters: Any) -> Any:
        """The same, without another attempt."""
        body = parameters.get("Body")
        proof = {"ContentMD5": _md5(body)} if self._proves and body is not None else {}
        self._count(operation, len(body) if body is not None else 0)
        try:
            answer = getattr(self.client, operation)(Bucket=self.bucket, **parameters, **proof)
        except self._network as error:
            if body is not None and not proof and "Content-MD5" in str(error):
                self._proves = True
                return self.once(operation, name, **parameters)
            raise translate(error, self.url, name) from error
        if operation in SIGNS and SIGNS[operation] not in answer:
            hint = "is the endpoint a store that speaks S3, and no proxy that answers in its place?"
            problem = "what answered was no store: it took a request for something else"
            raise errors.Unavailable(self.url, name, problem, transient=True, hint=hint)
        return answer

    def persist(
        self,
        action: Callable[[], T],
        settle: Callable[[errors.RemoteError], T] | None = None,
        policy: RetryPolicy | None = None,
    ) -> T:
        """``action`` again and again, as long as that may help."""
        attempts = 0

        def counted() -> T:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                with self._lock:
                    self._repeated += 1
            return action()

        try:
            return Retrier(policy or self._policy, self.clock, self._rng).call(counted, settle)
        except errors.RemoteError as error:
            error.transient = False
            raise

    def received(self, count: int) -> None:
        """So many bytes of a body have come."""
        with self._lock:
            self._received += count

    def reading(self, action: Callable[[], T], name: str) -> T:
        """Part of a body; what breaks there is explained like a request."""
        try:
            return action()
        except self._network as error:
            raise translate(error, self.url, name) from error

    def traffic(self) -> Traffic:
        with self._lock:
            return Traffic(
                requests=dict(self._requests),
                sent_bytes=self._sent,
                received_bytes=self._received,
                repeated=self._repeated,
            )

    def _count(self, operation: str, size: int) -> None:
        with self._lock:
            self._requests[operation] += 1
            self._sent += size


def _md5(body: bytes | bytearray) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
