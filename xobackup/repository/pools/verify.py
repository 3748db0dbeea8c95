"""Is a pool backup whole: are its bytes those that were written, and are they a dump of that pool?

Xen Orchestra keeps no digest: what it wrote is judged by its structure alone, and the answer says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from remotes.contract import Remote
from remotes.errors import Corrupt, NotFound, RemoteError
from xobackup.repository.errors import BadMetadata
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.json_text import parse_object
from xobackup.repository.pools.dump import BadDump, DumpReader, DumpSummary
from xobackup.repository.pools.point import PoolPoint

PIECE_BYTES = 1 << 20
_DIGEST_BYTES_MAX = 4096


@dataclass(slots=True, kw_only=True)
class PoolVerdict:
    """What was found in one point; ``summary`` when its dump is whole."""

    point: PoolPoint
    summary: DumpSummary | None = None
    with_digest: bool = False
    problems: list[Problem] = field(default_factory=list)

    @property
    def damaged(self) -> bool:
        return any(problem.severity is Severity.DAMAGE for problem in self.problems)

    @property
    def good(self) -> bool:
        return self.summary is not None and not self.problems


def verify_point(remote: Remote, point: PoolPoint, *, seen: Callable[[int], None] = lambda _: None) -> PoolVerdict:
    """Read the whole dump once. Never raises for content; ``seen`` is told the bytes of each piece and may raise."""
    verdict = PoolVerdict(point=point)
    digest = hashlib.sha256()
    reader: DumpReader | None = DumpReader()
    try:
        file = remote.open(point.data)
        try:
            buffer = bytearray(PIECE_BYTES)
            offset = 0
            while count := file.read_into(offset, memoryview(buffer)):
                offset += count
                digest.update(memoryview(buffer)[:count])
                reader = _fed(reader, memoryview(buffer)[:count], verdict)
                seen(count)
        finally:
            file.close()
    except NotFound:
        verdict.problems.append(_problem(point, "pool-data-missing", Severity.DAMAGE, "the dump is missing"))
        return verdict
    except Corrupt as error:
        verdict.problems.append(_problem(point, "pool-corrupt", Severity.DAMAGE, error.problem))
        return verdict
    except RemoteError as error:
        verdict.problems.append(_problem(point, "pool-unread", Severity.UNKNOWN, f"could not be read: {error}"))
        return verdict
    if reader is not None:
        _judge(reader, verdict)
    _compare(remote, offset, digest.hexdigest(), verdict)
    return verdict


def _fed(reader: DumpReader | None, piece: memoryview, verdict: PoolVerdict) -> DumpReader | None:
    """The reader, until it has found the dump bad: the rest is read for its digest only."""
    if reader is not None:
        try:
            reader.feed(piece)
        except BadDump as error:
            verdict.problems.append(_problem(verdict.point, "pool-dump", Severity.DAMAGE, error.problem))
            return None
    return reader


def _judge(reader: DumpReader, verdict: PoolVerdict) -> None:
    point = verdict.point
    try:
        summary = reader.finish()
    except BadDump as error:
        verdict.problems.append(_problem(point, "pool-dump", Severity.DAMAGE, error.problem))
        return
    assert summary.pool is not None
    if summary.pool.uuid != point.pool_uuid:
        message = f"expected the dump of pool {point.pool_uuid}, found that of {summary.pool.uuid or 'no pool'}"
        verdict.problems.append(_problem(point, "pool-uuid", Severity.DAMAGE, message))
    verdict.summary = summary


def _compare(remote: Remote, size: int, sha256: str, verdict: PoolVerdict) -> None:
    expected = read_digest(remote, verdict.point)
    if not expected:
        return
    verdict.with_digest = True
    if expected != {"size": size, "sha256": sha256}:
        message = f"expected {expected['size']} bytes with SHA-256 {expected['sha256']}, found {size} with {sha256}"
        verdict.problems.append(_problem(verdict.point, "pool-digest", Severity.DAMAGE, message))


def read_digest(remote: Remote, point: PoolPoint) -> dict[str, Any]:
    """``size`` and ``sha256`` as noted when the dump was written; ``{}`` when that is not known."""
    try:
        value = parse_object(remote.get(point.digest, limit_bytes=_DIGEST_BYTES_MAX), point.digest)
    except (RemoteError, BadMetadata):
        return {}
    known = {key: value.get(key) for key in ("size", "sha256")}
    return known if type(known["size"]) is int and isinstance(known["sha256"], str) else {}


def _problem(point: PoolPoint, code: str, severity: Severity, message: str) -> Problem:
    return Problem(code=code, severity=severity, path=point.data, message=message, points=(point.id,))
