"""Images of full backups that are damaged or missing, and writing them again from another repository.

What proves a copy: the checksum beside the damaged image and the length its restore point says; where there is no
checksum (encrypted remotes, or it was lost) that the other repository has the same backup (job, time, snapshot,
length) and its image is proven there. The copy is written out of sight and takes the image's name in one step, only
once all of it was read and proven: until then, and after a power cut, the restore point has what it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from remotes import faces
from remotes.contract import Remote
from remotes.errors import RemoteError
from xobackup.repository.errors import Refused, RepositoryError
from xobackup.repository.findings import Severity
from xobackup.repository.images.checksum import Checksum, pack_checksum
from xobackup.repository.images.reading import ImageReader, image_path, stored_checksum
from xobackup.repository.images.verify import verify_image
from xobackup.repository.layout import CHECKSUM_SUFFIX
from xobackup.repository.listing import list_points
from xobackup.repository.metadata import MODE_FULL, RestorePoint
from xobackup.repository.verified import NEVER, read_images

MINUTE_S = 60
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedImage:
    """The image of a full backup; ``problem`` says what is wrong with it."""

    point: RestorePoint
    problem: str

    def __str__(self) -> str:
        return image_path(self.point)


@dataclass(slots=True, kw_only=True)
class ImageRepairs:
    """What was written again (with where the copy was from), and what nobody has a copy of."""

    repaired: list[tuple[DamagedImage, str]] = field(default_factory=list)
    whole: list[DamagedImage] = field(default_factory=list)
    without_copy: list[DamagedImage] = field(default_factory=list)


class ImageSource(Protocol):
    """A repository that may have the same backup."""

    @property
    def name(self) -> str: ...

    def same_backups(self, point: RestorePoint) -> Iterator[tuple[Remote, RestorePoint]]:
        """Where the same backup is."""
        ...


def find_damaged_images(
    remote: Remote, vm: str, *, trusted_since_s: float | None, check: Callable[[], None]
) -> list[DamagedImage]:
    """Read every image of ``vm`` that was not verified since."""
    ages = read_images(remote, vm) if trusted_since_s is not None else {}
    since = int(trusted_since_s or 0) // MINUTE_S
    points = [point for point in list_points(remote, vm, use_cache=False).points if point.mode == MODE_FULL]
    found = [
        _damage_of(remote, point, check)
        for point in points
        if trusted_since_s is None or ages.get(point.id, NEVER) < max(since, 1)
    ]
    return [image for image in found if image is not None]


def proven_image(remote: Remote, image: DamagedImage, sources: Sequence[ImageSource]) -> str:
    """Where a proven copy is, ``""`` when nobody has one. Reads it whole."""
    return _from_any(remote, image, sources, lambda _: None, lambda: None)


def repair_images(
    remote: Remote,
    images: Sequence[DamagedImage],
    sources: Sequence[ImageSource],
    *,
    check: Callable[[], None],
) -> ImageRepairs:
    """Write again what has a proven copy. Under the VM's lock."""
    report = ImageRepairs()
    for image in images:
        check()
        if _damage_of(remote, image.point, check) is None:
            report.whole.append(image)
            continue
        place = _write_again(remote, image, sources, check)
        if not place:
            report.without_copy.append(image)
            continue
        if _damage_of(remote, image.point, check) is not None:
            problem = "it was written again and is damaged again; the storage does not keep what it takes"
            raise Refused("repair-failed", str(image), problem)
        report.repaired.append((image, place))
    return report


def _damage_of(remote: Remote, point: RestorePoint, check: Callable[[], None]) -> DamagedImage | None:
    verdict = verify_image(remote, point, whole=True, check=check)
    damage = [problem for problem in verdict.problems if problem.severity is Severity.DAMAGE]
    return DamagedImage(point=point, problem=damage[0].message) if damage and not verdict.unread else None


def _write_again(
    remote: Remote, image: DamagedImage, sources: Sequence[ImageSource], check: Callable[[], None]
) -> str:
    """Try one source after the other, each into an upload of its own."""
    path = image_path(image.point)
    for source in sources:
        copy = _Copy(faces.upload(remote, path, bound_bytes=image.point.size))
        try:
            place = _from_any(remote, image, [source], copy.take, check)
            if place:
                check()
                copy.upload.finish()
        finally:
            copy.upload.abort()
        if place:
            if not remote.capabilities.authenticated:
                remote.put(path + CHECKSUM_SUFFIX, pack_checksum(copy.md5.hexdigest()))
            return place
    return ""


class _Copy:
    """An image on its way."""

    def __init__(self, upload: faces.Upload) -> None:
        self.upload = upload
        self.md5 = hashlib.md5(usedforsecurity=False)

    def take(self, piece: memoryview) -> None:
        self.md5.update(piece)
        self.upload.write(piece)


def _from_any(
    remote: Remote,
    image: DamagedImage,
    sources: Sequence[ImageSource],
    take: Callable[[memoryview], None],
    check: Callable[[], None],
) -> str:
    """Read copies until one is proven; ``take`` gets its bytes on the way, and those of at most one that is not."""
    known = None if remote.capabilities.authenticated else stored_checksum(remote, image.point)
    for source in sources:
        for other, point in source.same_backups(image.point):
            try:
                if _read_proven(other, point, known, take, check):
                    return f"{source.name}: {image_path(point)}"
            except (RemoteError, RepositoryError):
                pass
            break  # of one source one copy: ``take`` has had bytes of it
    return ""


def _read_proven(
    remote: Remote,
    point: RestorePoint,
    known: Checksum | None,
    take: Callable[[memoryview], None],
    check: Callable[[], None],
) -> bool:
    state = hashlib.new(known.algorithm, usedforsecurity=False) if known is not None and known.algorithm else None
    reader = ImageReader(remote, point)
    try:
        if reader.size_bytes != point.size:
            return False
        buffer = memoryview(bytearray(PIECE_BYTES))
        while count := reader.readinto(buffer):
            check()
            if state is not None:
                state.update(buffer[:count])
            take(buffer[:count])
    finally:
        reader.close()
    if state is not None and known is not None:
        return state.hexdigest() == known.digest
    return reader.agrees is True
