"""Is the image of a full backup whole, and is it what was written?

Always: it is there, as long as its restore point says, something Xen Orchestra would take, and its description can be
read. All of it, or not (a share of the images is chosen by seed): every rule of the archive, the checksum of each of
its members, and the checksum beside it. An image whose checksum agrees is what the pool gave, whatever it looks like:
then a structure we do not understand is a warning, not damage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import xxhash

from remotes.contract import Remote
from remotes.errors import Corrupt, NotFound, RemoteError
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.images.reading import ImageReader, image_path
from xobackup.repository.metadata import RestorePoint
from xobackup.xva.archive import Archive
from xobackup.xva.errors import XvaError
from xobackup.xva.valid import HEAD_BYTES, TAIL_BYTES, xo_accepts


@dataclass(slots=True, kw_only=True)
class ImageVerdict:
    """What looking at one image gave."""

    problems: list[Problem] = field(default_factory=list)
    bytes_read: int = 0
    compared: bool = False
    """All of it was read and compared with its checksum."""
    unread: bool = False


def chosen(point: RestorePoint, fraction: float, seed: int) -> bool:
    """Whether a share of the images includes this one."""
    key = f"{seed} {point.vm_uuid} {point.id}".encode()
    return fraction >= 1 or xxhash.xxh64_intdigest(key) / 2**64 < fraction


def verify_image(
    remote: Remote,
    point: RestorePoint,
    *,
    whole: bool,
    told: Callable[[int], None] = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> ImageVerdict:
    """``whole``: read all of it. ``told`` hears of bytes read; ``check`` raises to stop."""
    return _ImageVerifier(remote, point, told, check).run(whole=whole)


class _ImageVerifier:
    def __init__(
        self, remote: Remote, point: RestorePoint, told: Callable[[int], None], check: Callable[[], None]
    ) -> None:
        self._remote = remote
        self._point = point
        self._told = told
        self._check = check
        self._path = image_path(point)
        self._verdict = ImageVerdict()

    def run(self, *, whole: bool) -> ImageVerdict:
        try:
            if self._measures():
                self._content(whole=whole)
        except NotFound:
            self._say("image-missing", Severity.DAMAGE, "the image of this full backup is missing")
        except Corrupt as error:
            self._say("image-corrupt", Severity.DAMAGE, f"it is not what was written: {error.problem}")
        except RemoteError as error:
            self._verdict.unread = True
            self._say("image-unread", Severity.UNKNOWN, error.problem)
        return self._verdict

    def _measures(self) -> bool:
        """Its length and its ends; whether it is worth reading on."""
        file = self._remote.open(self._path)
        try:
            size = file.size()
            if not self._remote.capabilities.range_reads and size == self._point.size:
                return bool(size)  # its ends would cost as much as all of it, which is proven as a whole anyway
            head, tail = bytearray(HEAD_BYTES), bytearray(min(TAIL_BYTES, size))
            file.read_into(0, memoryview(head))
            file.read_into(size - len(tail), memoryview(tail))
        finally:
            file.close()
        if self._point.size and size != self._point.size:
            cut = "it was cut off: " if size < self._point.size else ""
            self._say("image-size", Severity.DAMAGE, f"{cut}expected {self._point.size} bytes, found {size}")
        elif not xo_accepts(size, bytes(head), bytes(tail)):
            self._say("image-invalid", Severity.DAMAGE, "neither its beginning nor its end is that of an image")
        return bool(size)

    def _content(self, *, whole: bool) -> None:
        reader = ImageReader(self._remote, self._point, told=self._heard)
        try:
            wrong = self._structure(reader, whole=whole)
            if whole:
                reader.drain()
        finally:
            reader.close()
        agrees = reader.agrees
        self._verdict.compared = agrees is not None
        if agrees is False:
            self._say("image-checksum", Severity.DAMAGE, "it is not what was written: its checksum differs")
        if wrong is not None:
            proven = whole and agrees is not True
            told = "" if agrees is not True else "; its checksum agrees, so this is what the pool gave"
            severity = Severity.DAMAGE if proven else Severity.WARNING
            self._say(wrong.code, severity, f"{wrong}{told}")
        if whole and reader.checksum is None and not reader.authenticated:
            self._say("checksum-missing", Severity.INFO, "there is no checksum to compare it with")

    def _structure(self, reader: ImageReader, *, whole: bool) -> XvaError | None:
        try:
            archive = Archive(reader.readinto)
            if whole:
                archive.read_all()
        except XvaError as error:
            return error
        return None

    def _heard(self, count: int) -> None:
        self._check()
        self._verdict.bytes_read += count
        self._told(count)

    def _say(self, code: str, severity: Severity, message: str) -> None:
        self._verdict.problems.append(
            Problem(code=code, severity=severity, path=self._path, message=message, points=(self._point.id,))
        )
