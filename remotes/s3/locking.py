"""Object lock: a retention that goes with every object as it is put, so that at no instant it is without.

How long is the caller's to say, by name; nothing here knows what an object is for. The date is this machine's time
plus the retention plus :data:`SKEW_S`: a store refuses clocks that differ by more than that, so nothing is locked for
less than was asked for. A bucket without object lock, or one that cannot be asked, is refused when it is opened.

Some stores take the retention with a simple PUT, but not with a copy or an upload in parts (Ceph 16 ignores it there
without a word): so those are looked at when they are done, and locked by a request of their own where it was ignored.

Deleting and replacing go on working in such a bucket: what was there stays as an old version, which nobody can delete
before the end of its retention (in governance mode: nobody without a special permission).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from remotes import errors
from remotes.faces import Protection
from remotes.s3.requester import Requester

SKEW_S = 15 * 60.0
MODES = ("governance", "compliance")
DAY_S = 86_400.0
_DENIED = "the key needs s3:PutObjectRetention to lock what it puts, besides what it needs without a lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLock:
    """``mode``: one of :data:`MODES`. ``seconds_of``: how long an object of that name is locked, 0: not at all."""

    mode: str
    seconds_of: Callable[[str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLock:
    """What a bucket says of its object lock. ``mode`` and ``days`` of its default retention, ``""`` and 0: none."""

    enabled: bool
    mode: str = ""
    days: int = 0

    @property
    def told(self) -> str:
        return f"{self.mode} for {self.days} days" if self.days else "no default retention"


class Locker:
    """What goes along with the objects of one remote."""

    def __init__(self, requester: Requester, lock: ObjectLock | None) -> None:
        self.requester = requester
        self.lock = lock

    def terms(self, name: str) -> dict[str, Any]:
        """Parameters of the request that makes ``name``."""
        seconds = self.lock.seconds_of(name) if self.lock is not None else 0.0
        if self.lock is None or seconds <= 0:
            return {}
        until = datetime.fromtimestamp(int(self.requester.clock.now_s() + seconds + SKEW_S), tz=UTC)
        return {"ObjectLockMode": self.lock.mode.upper(), "ObjectLockRetainUntilDate": until}

    def put(self, name: str, **parameters: Any) -> Any:
        """``put_object``, locked as it should be."""
        return self.call("put_object", name, **parameters)

    def call(self, operation: str, name: str, *, locks: str = "", **parameters: Any) -> Any:
        """A request that makes an object: ``locks``, where that is not what errors should name. What is refused for
        want of a permission says which."""
        terms = self.terms(locks or name)
        try:
            return self.requester.call(operation, name, **parameters, **terms)
        except errors.AccessDenied as error:
            if terms and "s3:PutObjectRetention" not in (error.hint or ""):
                error.hint = _DENIED
            raise

    def copy(self, name: str, *, error_name: str = "", **parameters: Any) -> None:
        """``copy_object`` to ``name``, locked as it should be; ``error_name``: what errors name instead."""
        named = error_name or name
        try:
            self.call("copy_object", named, locks=name, **parameters)
        except errors.Unavailable as error:
            if "ObjectLockHeaders" not in error.problem:  # wants a proof of a body that there is not
                raise
            self.requester.call("copy_object", named, **parameters)

    def ensure(self, name: str, key: str, head: Mapping[str, Any] | None = None) -> None:
        """Lock what was just made under ``name``, unless it is. ``head``: the answer to ``head_object``, if asked."""
        terms = self.terms(name)
        if not terms:
            return
        found = protection_of(head if head is not None else self.requester.call("head_object", name, Key=key))
        wanted = terms["ObjectLockRetainUntilDate"]
        if found is not None and (found.until_s is None or found.until_s > wanted.timestamp() - SKEW_S):
            return
        try:
            retention = {"Mode": terms["ObjectLockMode"], "RetainUntilDate": wanted}
            self.requester.call("put_object_retention", name, Key=key, Retention=retention)
        except errors.AccessDenied as error:
            error.hint = _DENIED
            raise


def bucket_lock(requester: Requester) -> BucketLock:
    """Ask the bucket. A store that knows no object lock has none; other errors pass."""
    try:
        answer = requester.call("get_object_lock_configuration")
    except (errors.NotFound, errors.NotSupported):
        return BucketLock(enabled=False)
    except errors.Unavailable as error:
        if "ObjectLockConfigurationNotFound" in error.problem:
            return BucketLock(enabled=False)
        raise
    found = answer.get("ObjectLockConfiguration")
    if not isinstance(found, dict) or found.get("ObjectLockEnabled") != "Enabled":
        return BucketLock(enabled=False)
    rule = (found.get("Rule") or {}).get("DefaultRetention") or {}
    days = int(rule.get("Days") or 0) or 365 * int(rule.get("Years") or 0)
    return BucketLock(enabled=True, mode=str(rule.get("Mode") or "").lower(), days=days)


def require_lock(requester: Requester, lock: ObjectLock) -> BucketLock:
    """What the bucket says, when it can lock; else an error that says what to do."""
    url = requester.url
    try:
        found = bucket_lock(requester)
    except errors.AccessDenied as error:
        error.hint = "to see whether the bucket can lock, the key needs s3:GetBucketObjectLockConfiguration"
        raise
    if not found.enabled:
        told = f"expected a bucket with object lock, for lock.mode = {lock.mode!r}; this one has none"
        hint = (
            "make a bucket with object lock enabled (create-bucket --object-lock-enabled-for-bucket) and point the "
            "remote there, or take the lock out of its configuration"
        )
        raise errors.Unavailable(url, "", told, transient=False, hint=hint)
    return found


def protection_of(head: Mapping[str, Any]) -> Protection | None:
    """What an answer to ``head_object`` says of an object's lock."""
    until = head.get("ObjectLockRetainUntilDate")
    until_s = until.timestamp() if isinstance(until, datetime) else None
    mode = str(head.get("ObjectLockMode") or "").lower()
    if str(head.get("ObjectLockLegalHoldStatus") or "").upper() == "ON":
        return Protection(how="a legal hold", until_s=None, mode=mode, hides=True)
    if until_s is None:
        return None
    return Protection(how=f"object lock ({mode})", until_s=until_s, mode=mode, hides=True)
