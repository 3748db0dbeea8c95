"""What came of moving a VM's disks: which are durable where, and which remotes dropped out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xobackup.engine.reading.ladder import Via
from xobackup.engine.target import SINK_ERRORS

if TYPE_CHECKING:
    from xobackup.engine.target import DiskWriter
    from xobackup.repository.writer import DiskResult


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskDone:
    """One disk on one remote, durable there."""

    live_uuid: str
    disk_name: str
    remote: str
    via: Via
    base_uuid: str
    chain_length: int
    result: DiskResult

    @property
    def delta(self) -> bool:
        return self.via.delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one disk was read for some remotes, and why not in a better way; for reports."""

    disk: str
    disk_name: str
    remotes: tuple[str, ...]
    via: str
    not_via: tuple[str, ...]
    read_bytes: int


@dataclass(slots=True, kw_only=True)
class Transferred:
    """All disks of a VM. ``dropped``: remotes that failed, with their first error."""

    done: list[DiskDone] = field(default_factory=list)
    dropped: dict[str, BaseException] = field(default_factory=dict)
    read_bytes: int = 0
    ways: list[Way] = field(default_factory=list)
    writers: dict[str, list[DiskWriter]] = field(default_factory=dict)
    """Finished disks that no restore point names yet, by remote."""

    def of(self, remote: str) -> dict[str, DiskDone]:
        """What a remote has, by live VDI uuid."""
        return {one.live_uuid: one for one in self.done if one.remote == remote}

    def discard(self, remotes: Iterable[str]) -> None:
        """Take back the finished disks of remotes that will not publish them. What cannot be is the next run's."""
        for remote in remotes:
            for writer in self.writers.pop(remote, []):
                abort(writer)


class Writer(Protocol):
    """Of a disk or an image."""

    def abort(self) -> None: ...


def abort(writer: Writer) -> None:
    """Take a disk or an image back. A remote that cannot even do that keeps a part that the next run takes back."""
    with contextlib.suppress(*SINK_ERRORS):
        writer.abort()
