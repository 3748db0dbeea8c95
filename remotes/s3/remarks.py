"""What an operator should know of a bucket: looked at, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remotes import errors
from remotes.faces import Remark
from remotes.s3.conditions import Condition
from remotes.s3.requester import Requester

_NO_LOCK = (
    "run one job at a time there: without this the store cannot keep two programs from working on the same VM "
    "(leftovers of interrupted runs are deleted only when they are a day old)"
)


def remarks_of(requester: Requester, condition: Condition, *, verified: bool) -> Iterator[Remark]:
    """Of one bucket."""
    yield _condition(condition)
    if not verified:
        told = "the certificate of the store is not verified"
        yield Remark(state="warning", message=told, hint='name its authority: ca = "/path/ca.pem"')
    if _asked(requester, "get_bucket_versioning").get("Status") == "Enabled":
        told = "the bucket keeps old versions: what is deleted or merged away goes on taking space"
        hint = "add a lifecycle rule that expires noncurrent versions, and delete markers"
        yield Remark(state="warning", message=told, hint=hint)
    lock = _asked(requester, "get_object_lock_configuration").get("ObjectLockConfiguration")
    if isinstance(lock, dict) and lock.get("ObjectLockEnabled") == "Enabled":
        yield _lock(lock)


def _condition(condition: Condition) -> Remark:
    if condition is Condition.KEPT:
        return Remark(state="ok", message="writers are kept apart by leases (the store keeps If-None-Match)")
    if condition is Condition.UNKNOWN:
        return Remark(state="ok", message="whether writers can be kept apart is found out at the first backup")
    how = "ignores" if condition is Condition.IGNORED else "does not know"
    return Remark(state="warning", message=f"no lock: the store {how} If-None-Match", hint=_NO_LOCK)


def _lock(lock: dict[str, Any]) -> Remark:
    rule = lock.get("Rule", {}).get("DefaultRetention", {})
    told = f"object lock is enabled ({_retention(rule)}): what is deleted stays as an old version until then"
    return Remark(
        state="warning", message=told, hint="retention of jobs does not free space before that of the bucket"
    )


def _retention(rule: dict[str, Any]) -> str:
    if not rule:
        return "no default retention"
    length = f"{rule['Days']} days" if rule.get("Days") else f"{rule.get('Years')} years"
    return f"{str(rule.get('Mode', '')).lower()} for {length}"


def _asked(requester: Requester, operation: str) -> dict[str, Any]:
    """The answer; nothing when the store has none, or does not let us ask."""
    try:
        answer = requester.call(operation)
    except errors.RemoteError:
        return {}
    return answer if isinstance(answer, dict) else {}
