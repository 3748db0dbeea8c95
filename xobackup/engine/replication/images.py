"""The image that carries blocks into a replica's disk: a VHD, or a qcow2 image where its SR keeps it as one.

A VHD says by a block's bitmap that nothing of it is there; a qcow2 image has every cluster that its tables name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol
from uuid import UUID

from vhd.emit import VhdFrame
from vhd.layout import ParentLink
from vhd.qcow2.emit import Qcow2Frame
from vhd.timestamps import to_vhd
from xobackup.xapi.image_format import ImageFormat


class Image(Protocol):
    """One stream: :meth:`head`, then of each block :meth:`pieces`, then :attr:`footer`."""

    format: ImageFormat
    length_bytes: int
    footer: bytes

    def head(self) -> Iterator[bytes]: ...
    def pieces(self, index: int, bitmap: memoryview | bytes, data: memoryview) -> tuple[memoryview | bytes, ...]: ...


class VhdImage:
    """Differencing when it continues ``base_uuid``: whoever reads bitmaps leaves alone what is not there."""

    format = ImageFormat.VHD

    def __init__(
        self, *, name: str, size_bytes: int, indexes: Sequence[int], uuid: str, base_uuid: str, now_s: float
    ) -> None:
        parent = ParentLink(name=f"{base_uuid}.vhd", uuid=UUID(base_uuid)) if base_uuid else None
        self._frame = VhdFrame(
            name=name,
            size_bytes=size_bytes,
            indexes=indexes,
            uuid=UUID(uuid),
            timestamp=to_vhd(now_s),
            parent=parent,
        )
        self.length_bytes = self._frame.length_bytes
        self.footer = self._frame.footer

    def head(self) -> Iterator[bytes]:
        yield self._frame.head

    def pieces(self, _index: int, bitmap: memoryview | bytes, data: memoryview) -> tuple[memoryview | bytes, ...]:
        return bitmap, data


class Qcow2Image:
    """Clusters that are not in it keep what the disk holds; those of a block that is are written whole."""

    format = ImageFormat.QCOW2
    footer = b""

    def __init__(self, *, name: str, size_bytes: int, indexes: Sequence[int]) -> None:
        self._frame = Qcow2Frame(name=name, size_bytes=size_bytes, indexes=indexes)
        self.length_bytes = self._frame.length_bytes

    def head(self) -> Iterator[bytes]:
        return self._frame.head()

    def pieces(self, index: int, _bitmap: memoryview | bytes, data: memoryview) -> tuple[memoryview | bytes, ...]:
        return (self._frame.data(index, data),)
