"""A new pool backup: put together out of sight, published in one step.

:class:`PoolWriter` takes the dump as it comes. Order, each step durable before the next: ``data`` (synced, its length
checked), ``metadata.json``, the digest, and then the whole directory gets its name, which must be free. A crash
before that leaves a part in ``.xobackup/`` that no program takes for a backup. Where a remote cannot rename a
directory in one step, ``metadata.json`` is put last instead: without it there is no point.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

from remotes.contract import Remote, WritableFile
from remotes.errors import AlreadyExists, NotFound, RemoteError
from xobackup.repository.errors import Refused
from xobackup.repository.json_text import dump
from xobackup.repository.pools.layout import (
    data_of,
    digest_name,
    metadata_of,
    part_directory,
    point_directory,
)
from xobackup.repository.pools.listing import list_pool
from xobackup.repository.pools.point import PoolDraft, PoolPoint, parse_pool_point

OBJECT_BYTES_MAX = 512 << 20
"""Held in memory, and only for remotes that take an object in one piece."""


class PoolWriter:
    """One point on its way to one remote; a context manager that leaves no part behind unless it crashes."""

    def __init__(self, remote: Remote, draft: PoolDraft, *, run: str) -> None:
        """Refuses a point whose second is taken, or that would not be the newest."""
        self._remote = remote
        self._draft = draft
        self._metadata = draft.encode()
        self._place = point_directory(draft.schedule_id, draft.pool_uuid, draft.point)
        self._part = part_directory(draft.schedule_id, draft.pool_uuid, draft.point, run)
        self._digest = hashlib.sha256()
        self._size = 0
        self._published = False
        self._refuse_place()
        self._in_place = remote.capabilities.random_access and remote.capabilities.atomic_rename
        self._file: WritableFile | None = remote.create(data_of(self._part)) if self._in_place else None
        self._buffer = bytearray()

    def __enter__(self) -> PoolWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """The next piece of the dump."""
        if self._file is not None:
            self._file.write_at(self._size, data)
        elif self._size + len(data) > OBJECT_BYTES_MAX:
            problem = f"the dump is larger than {OBJECT_BYTES_MAX} bytes, which this remote takes in one piece only"
            raise Refused("pool-too-large", self._place, problem)
        else:
            self._buffer += data
        self._digest.update(data)
        self._size += len(data)

    def publish(self) -> PoolPoint:
        """Make it a point. Raises :class:`Refused` when another one has taken its second meanwhile."""
        point = self._parsed()
        try:
            if self._file is not None:
                self._publish_part(self._file)
            else:
                self._put_digest()
                self._remote.put(data_of(self._place), bytes(self._buffer))
                self._remote.put(metadata_of(self._place), self._metadata, replace=False)
        except AlreadyExists:
            raise self._taken() from None
        self._published = True
        return point

    def abandon(self) -> None:
        """Remove the part, as far as the remote answers; nothing after :meth:`publish`."""
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(RemoteError):
                file.close()
        if self._published:
            return
        with suppress(RemoteError):  # out of sight: the next clean-up finds it
            self._remote.delete_tree(self._part)

    def _publish_part(self, file: WritableFile) -> None:
        file.sync()
        found = file.size()
        if found != self._size:
            raise Refused("pool-length", data_of(self._part), f"expected {self._size} bytes, found {found}")
        self._file = None
        file.close()
        self._remote.put(metadata_of(self._part), self._metadata)
        self._put_digest()
        self._remote.rename(self._part, self._place)

    def _put_digest(self) -> None:
        draft = self._draft
        value = {"size": self._size, "sha256": self._digest.hexdigest()}
        self._remote.put(digest_name(draft.schedule_id, draft.pool_uuid, draft.point), dump(value))

    def _parsed(self) -> PoolPoint:
        """As a reader will see it: what cannot be read back is not published."""
        draft = self._draft
        return parse_pool_point(
            self._metadata,
            schedule=draft.schedule_id,
            pool=draft.pool_uuid,
            point=draft.point,
            size=self._size,
        )

    def _refuse_place(self) -> None:
        try:
            self._remote.stat(self._place)
        except NotFound:
            pass
        else:
            raise self._taken()
        newest = newest_of(self._remote, self._draft.schedule_id, self._draft.pool_uuid)
        if newest > self._draft.point:
            raise Refused("not-newest", self._place, f"{newest} is newer: names must grow with time")

    def _taken(self) -> Refused:
        return Refused("same-second", self._place, "there is a backup of this second already")


def newest_of(remote: Remote, schedule: str, pool: str) -> str:
    """The id of the newest point of a pool by a schedule, ``""`` when there is none."""
    return max((point.id for point in list_pool(remote, schedule, pool).points), default="")
