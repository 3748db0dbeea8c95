"""A pool backup's ``metadata.json``, and Xen Orchestra's configuration backups, as data.

Written with the keys and the shape of Xen Orchestra (two spaces, the raw records of pool and master); read
tolerantly, bounded, and with every name checked before it becomes part of a path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xobackup.repository.errors import BadMetadata
from xobackup.repository.json_text import parse_object
from xobackup.repository.layout import timestamp_name
from xobackup.repository.pools.layout import data_of, digest_name, metadata_of, point_directory

METADATA_BYTES_MAX = 8 * 1024 * 1024
"""Two records of a pool are some 20 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPoint:
    """One backup of a pool's database. ``metadata`` is the JSON itself; treat it as read-only."""

    id: str
    schedule_id: str
    pool_uuid: str
    timestamp_ms: int
    size: int
    """Bytes of the dump."""
    job_id: str = ""
    job_name: str = ""
    pool_name: str = ""
    master_uuid: str = ""
    master_name: str = ""
    version: str = ""
    """The product version of the master then."""
    metadata: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @property
    def directory(self) -> str:
        return point_directory(self.schedule_id, self.pool_uuid, self.id)

    @property
    def data(self) -> str:
        """The name of the dump."""
        return data_of(self.directory)

    @property
    def digest(self) -> str:
        return digest_name(self.schedule_id, self.pool_uuid, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPoint:
    """A backup of Xen Orchestra's own configuration. It is only told about: nothing of ours reads or changes it."""

    id: str
    schedule_id: str
    size: int
    job_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDraft:
    """What a new point says of itself. ``pool`` and ``master`` are XAPI's records as they are."""

    job_id: str
    job_name: str
    schedule_id: str
    schedule_name: str
    timestamp_ms: int
    pool: Mapping[str, Any]
    master: Mapping[str, Any]

    @property
    def pool_uuid(self) -> str:
        return str(self.pool.get("uuid", ""))

    @property
    def point(self) -> str:
        return timestamp_name(self.timestamp_ms)

    def encode(self) -> bytes:
        """The ``metadata.json``."""
        value = {
            "jobId": self.job_id,
            "jobName": self.job_name,
            "pool": dict(self.pool),
            "poolMaster": dict(self.master),
            "scheduleId": self.schedule_id,
            "scheduleName": self.schedule_name,
            "timestamp": self.timestamp_ms,
        }
        try:
            return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
            name = metadata_of(point_directory(self.schedule_id, self.pool_uuid, self.point))
            raise BadMetadata(name, f"cannot be written as JSON: {error}") from None


def parse_pool_point(raw: bytes, *, schedule: str, pool: str, point: str, size: int) -> PoolPoint:
    """The point in ``raw``; :class:`BadMetadata` when it is none, or that of another pool than its place says."""
    name = metadata_of(point_directory(schedule, pool, point))
    value = parse_object(raw, name)
    record = _record(value, "pool")
    master = _record(value, "poolMaster")
    found = record.get("uuid")
    if found != pool:
        raise BadMetadata(name, f"expected pool {pool}, found {_text(found) or 'none'}", code="pool-uuid")
    timestamp = value.get("timestamp")
    if type(timestamp) is float and timestamp.is_integer():
        timestamp = int(timestamp)
    if type(timestamp) is not int:
        raise BadMetadata(name, f"expected a timestamp in milliseconds, found {timestamp!r}")
    return PoolPoint(
        id=point,
        schedule_id=schedule,
        pool_uuid=pool,
        timestamp_ms=timestamp,
        size=size,
        job_id=_text(value.get("jobId")),
        job_name=_text(value.get("jobName")),
        pool_name=_text(record.get("name_label")),
        master_uuid=_text(master.get("uuid")),
        master_name=_text(master.get("name_label")),
        version=_text(_record(master, "software_version").get("product_version")),
        metadata=value,
    )


def _record(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
