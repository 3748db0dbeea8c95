"""Names of pool backups and of what Xen Orchestra keeps beside them, relative to the remote's root.

    xo-pool-metadata-backups/<schedule>/<pool>/<ts>/metadata.json    which pool, which job, when
    xo-pool-metadata-backups/<schedule>/<pool>/<ts>/data             the dump of its database, as the pool sent it
    xo-config-backups/<schedule>/<ts>/{metadata.json, data.json}     Xen Orchestra's own configuration: never touched
    .xobackup/pool-metadata/<schedule>/<pool>/<ts>.<run>.part/       ours: a point being written, or being deleted
    .xobackup/pool-digests/<schedule>/<pool>/<ts>.json               ours: length and SHA-256 of ``data``

``<ts>`` as everywhere (:func:`xobackup.repository.layout.timestamp_name`); schedule and pool are uuids. Xen Orchestra
counts every directory called ``<ts>`` in its retention, so a point gets that name only when it is whole.
"""

from __future__ import annotations

from xobackup.repository.layout import DATA, PRIVATE, checked_uuid, is_part, point_id

POOL_BACKUPS = "xo-pool-metadata-backups"
CONFIG_BACKUPS = "xo-config-backups"
METADATA = "metadata.json"
PARTS = f"{PRIVATE}/pool-metadata"
DIGESTS = f"{PRIVATE}/pool-digests"
PART_SUFFIX = ".part"


def pool_directory(schedule: str, pool: str) -> str:
    """Where the points of one pool by one schedule are."""
    return f"{POOL_BACKUPS}/{_below(schedule, pool)}"


def point_directory(schedule: str, pool: str, point: str) -> str:
    return f"{pool_directory(schedule, pool)}/{point_id(point)}"


def metadata_of(directory: str) -> str:
    return f"{directory}/{METADATA}"


def data_of(directory: str) -> str:
    return f"{directory}/{DATA}"


def parts_directory(schedule: str, pool: str) -> str:
    """Where points of one pool by one schedule are put together and taken apart."""
    return f"{PARTS}/{_below(schedule, pool)}"


def part_directory(schedule: str, pool: str, point: str, run: str) -> str:
    """A point that is no longer, or not yet, one: ``run`` tells the parts of two runs apart."""
    assert is_part(run), run
    return f"{parts_directory(schedule, pool)}/{point_id(point)}.{run}{PART_SUFFIX}"


def digest_name(schedule: str, pool: str, point: str) -> str:
    return f"{DIGESTS}/{_below(schedule, pool)}/{point_id(point)}.json"


def _below(schedule: str, pool: str) -> str:
    return f"{checked_uuid('schedule', schedule)}/{checked_uuid('pool', pool)}"
