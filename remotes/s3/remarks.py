"""What an operator should know of a bucket: looked at, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remotes import errors
from remotes.faces import Remark
from remotes.s3.conditions import Condition
from remotes.s3.locking import BucketLock, ObjectLock, bucket_lock
from remotes.s3.requester import Requester
from remotes.s3.versions import count_hidden

_NO_LOCK = (
    "run one job at a time there: without this the store cannot keep two programs from working on the same VM "
    "(leftovers of interrupted runs are deleted only when they are a day old)"
)


def remarks_of(
    requester: Requester, condition: Condition, lock: ObjectLock | None, *, verified: bool, prefix: str
) -> Iterator[Remark]:
    """Of one bucket. ``prefix``: of our keys in it."""
    yield _condition(condition)
    if not verified:
        told = "the certificate of the store is not verified"
        yield Remark(state="warning", message=told, hint='name its authority: ca = "/path/ca.pem"')
    versioned = _asked(requester, "get_bucket_versioning").get("Status") == "Enabled"
    try:
        found = bucket_lock(requester)
    except errors.RemoteError:
        found = BucketLock(enabled=False)
    if versioned or found.enabled:
        yield _versions(requester, prefix)
    if lock is not None:
        yield from _our_lock(lock, found)
    elif found.enabled:
        yield _foreign_lock(found)


def _condition(condition: Condition) -> Remark:
    if condition is Condition.KEPT:
        return Remark(state="ok", message="writers are kept apart by leases (the store keeps If-None-Match)")
    if condition is Condition.UNKNOWN:
        return Remark(state="ok", message="whether writers can be kept apart is found out at the first backup")
    how = "ignores" if condition is Condition.IGNORED else "does not know"
    return Remark(state="warning", message=f"no lock: the store {how} If-None-Match", hint=_NO_LOCK)


def _versions(requester: Requester, prefix: str) -> Remark:
    """How much is out of sight, and what that means."""
    told = "the bucket keeps old versions: what is deleted or merged away goes on taking space"
    try:
        hidden = count_hidden(requester, prefix)
    except errors.RemoteError:
        hidden = None
    if hidden is not None:
        least = "at least " if hidden.more else ""
        mib = hidden.old_bytes / (1 << 20)
        told += f" ({least}{hidden.old} old versions of {mib:.1f} MiB, {hidden.markers} marks of deletions)"
    hint = (
        "add a lifecycle rule that expires noncurrent versions and delete markers; until then `backups list --as-of` "
        "shows what was there, and `backups undelete` brings it back"
    )
    return Remark(state="warning", message=told, hint=hint)


def _our_lock(lock: ObjectLock, found: BucketLock) -> Iterator[Remark]:
    """Of a remote that locks what it is given."""
    told = f"what is put there is locked in {lock.mode} mode, from the first moment; the bucket has {found.told}"
    yield Remark(state="ok", message=told)
    if lock.mode == "governance":
        hint = "keys used for backups should not have s3:BypassGovernanceRetention"
        yield Remark(state="ok", message="who may bypass governance can delete locked versions", hint=hint)
    if found.days:
        told = (
            f"the bucket's default retention ({found.told}) locks what we do not: every lease and note that is "
            "replaced stays that long as an old version"
        )
        hint = "take the default retention off the bucket: this remote sets a retention on each object by itself"
        yield Remark(state="warning", message=told, hint=hint)


def _foreign_lock(found: BucketLock) -> Remark:
    """Of a bucket that locks by itself, or could."""
    if not found.days:
        told = "object lock is enabled, but nothing is locked: there is no default retention, nor a lock of ours"
        hint = 'lock what is put there: lock = { mode = "governance", days = 30, chain_days = 7 }'
        return Remark(state="warning", message=told, hint=hint)
    told = (
        f"object lock is enabled ({found.told}): retention and merges wait until it ends, and what later backups "
        "build on is not locked as long as they are"
    )
    hint = f'let the remote do it: lock = {{ mode = "{found.mode}", days = {found.days}, chain_days = 7 }}'
    return Remark(state="warning", message=told, hint=hint)


def _asked(requester: Requester, operation: str) -> dict[str, Any]:
    """The answer; nothing when the store has none, or does not let us ask."""
    try:
        answer = requester.call(operation)
    except errors.RemoteError:
        return {}
    return answer if isinstance(answer, dict) else {}
