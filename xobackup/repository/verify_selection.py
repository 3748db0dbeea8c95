"""Which blocks and images of one VM a verification reads, and what it remembers of them afterwards."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remotes.contract import Remote
from remotes.errors import RemoteError
from xobackup.repository.images.verify import chosen
from xobackup.repository.layout import PRIVATE
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.slices import OldestShare, Part, Quota, Share, Slice, quota_for
from xobackup.repository.verified import (
    NEVER,
    Verified,
    print_of,
    read_images,
    read_verified,
    write_images,
    write_verified,
)
from xobackup.repository.verify_disk import DiskVerifier

MINUTE_S = 60


class Selection:
    """See the module's head. ``remember``: write down what was found whole."""

    def __init__(self, remote: Remote, vm: str, slice_: Slice, *, now_s: float, remember: bool) -> None:
        self._remote = remote
        self._vm = vm
        self._slice = slice_
        self._now = int(now_s) // MINUTE_S
        self._remember = remember
        self._slice_was_asked = not isinstance(slice_, Share)
        self._records: dict[str, Verified] = {}
        self._images: dict[str, int] = {}
        self._images_now: dict[str, int] = {}

    def assign(self, verifiers: Sequence[DiskVerifier]) -> list[DiskVerifier]:
        """Tell each what to read; returns them in the order in which to run: the newest disks first."""
        ordered = sorted(verifiers, key=lambda verifier: verifier.member.name, reverse=True)
        quotas = self._quotas(ordered) if isinstance(self._slice, OldestShare) else {}
        for verifier in ordered:
            verifier.choice = DiskChoice(
                slice=self._slice,
                verifier=verifier,
                record=self._record(verifier.lineage),
                now=self._now,
                quota=quotas.get(id(verifier)),
            )
        return ordered

    def images(self, points: Iterable[RestorePoint]) -> set[str]:
        """Ids of the full backups whose image is read whole."""
        points = list(points)
        found = self._slice
        if isinstance(found, Share):
            return {point.id for point in points if chosen(point, found.fraction, found.seed)}
        if isinstance(found, Part):
            return {point.id for point in points if found.has_image(self._vm, point.id)}
        ages = self._image_ages()
        wanted = sum(point.size for point in points) * found.fraction
        taken: set[str] = set()
        oldest = sorted(points, key=lambda point: point.id, reverse=True)
        for point in sorted(oldest, key=lambda point: ages.get(point.id, NEVER)):
            if wanted <= 0:
                break
            taken.add(point.id)
            wanted -= point.size
        return taken

    def note_image(self, point: str, *, whole: bool) -> None:
        """The image was read to its end and is what was written, or it is damaged."""
        self._images_now[point] = self._now if whole else NEVER

    def save(self, verifiers: Sequence[DiskVerifier], points: Iterable[str], *, complete: bool) -> None:
        """Write the records; ``complete``: every restore point was looked at, so what is no more is forgotten.

        A repository of Xen Orchestra's in which nothing of ours is stays untouched unless slices were asked for. A
        storage that takes no writes is no reason to fail: then the next verification does not know of this one.
        """
        if not self._remember or not (self._slice_was_asked or self._is_ours()):
            return
        with contextlib.suppress(RemoteError):
            for lineage, record in self._records.items():
                if not record.changed:
                    continue
                ours = [verifier for verifier in verifiers if verifier.lineage == lineage]
                live = (
                    pair
                    for verifier in ours
                    for pair in zip(verifier.live_indexes, verifier.live_prints, strict=True)
                )
                write_verified(self._remote, self._vm, lineage, record.only(live) if complete else record)
            if self._images_now:
                images = self._image_ages() | self._images_now
                known = set(points) if complete else set(images)
                kept = {point: minutes for point, minutes in images.items() if minutes != NEVER and point in known}
                write_images(self._remote, self._vm, kept)

    def _is_ours(self) -> bool:
        try:
            return bool(self._remote.list(PRIVATE))
        except RemoteError:
            return False

    def _record(self, lineage: str) -> Verified:
        if lineage not in self._records:
            self._records[lineage] = read_verified(self._remote, self._vm, lineage)
        return self._records[lineage]

    def _image_ages(self) -> dict[str, int]:
        if not self._images:
            self._images = read_images(self._remote, self._vm)
        return self._images

    def _quotas(self, ordered: Sequence[DiskVerifier]) -> dict[int, Quota]:
        """Per disk how many blocks of which age: the newest disks get what is left of the last age first."""
        assert isinstance(self._slice, OldestShare)
        ages = {id(verifier): self._ages(verifier) for verifier in ordered}
        total: Counter[int] = Counter()
        for counted in ages.values():
            total.update(counted)
        whole = quota_for(total, self._slice.fraction)
        left = whole.more
        quotas: dict[int, Quota] = {}
        for verifier in ordered:
            taken = min(left, ages[id(verifier)][whole.before])
            quotas[id(verifier)] = Quota(whole.before, taken)
            left -= taken
        return quotas

    def _ages(self, verifier: DiskVerifier) -> Counter[int]:
        record = self._record(verifier.lineage)
        uuid = verifier.member.uuid
        return Counter(record.when(index, print_of(uuid, index, entry)) for index, entry in verifier.blocks())


@dataclass(kw_only=True)
class DiskChoice:
    """What is read of one disk. Used by the one thread that verifies that disk."""

    slice: Slice
    verifier: DiskVerifier
    record: Verified
    now: int
    quota: Quota | None = None

    def has(self, index: int, mark: int) -> bool:
        """Whether the block is read."""
        if self.quota is not None:
            return self.quota.takes(self.record.when(index, mark))
        if isinstance(self.slice, Part):
            return self.slice.has(self.verifier.lineage, index)
        assert isinstance(self.slice, Share)
        return self.slice.has(self.verifier.member.uuid, index)

    def note(self, index: int, mark: int, *, whole: bool) -> None:
        """What came of reading it."""
        if whole:
            self.record.note(index, mark, self.now)
        else:
            self.record.forget(index, mark)
