"""VHD or qcow2: which image a new disk becomes, and how large it may be.

The driver says which it can make (``SM.supported_image_formats``), a repository's PBDs which it prefers
(``device_config:preferred-image-formats``), and a disk may ask (``sm_config:image-format``). Without a preference
disks are VHDs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES
from vhd.qcow2.layout import CLUSTER_BYTES
from xobackup.simpool.failures import Failure, backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xobackup.simpool.database import Database
    from xobackup.simpool.releases import Release
    from xobackup.simpool.storage.node import ImageFormat

KEY = "image-format"
PREFERRED = "preferred-image-formats"
VHD_MAX_BYTES = 2040 << 30
LARGEST: dict[ImageFormat, int] = {"vhd": VHD_MAX_BYTES, "qcow2": 16 << 40}
GRAIN_BYTES: dict[ImageFormat, int] = {"vhd": BLOCK_BYTES, "qcow2": CLUSTER_BYTES}
"""Sizes are rounded up to this."""


def format_of_new(database: Database, sr: str, config: Mapping[str, str], size_bytes: int) -> ImageFormat:
    """What a new disk of that size becomes. Raises the driver's failure when it cannot be what it asks for."""
    supported, preferred = _supported(database, sr), _preferred(database, sr)
    asked = config.get(KEY, "")
    if asked:
        allowed = [one for one in supported if not preferred or one in preferred]
        found = next((one for one in allowed if one == asked), None)
        if found is None:
            raise backend(78, "VDI Creation failed", f"unsupported image format {asked}")
        return found
    usable = [one for one in preferred if one in supported] or ["vhd"]
    return next((one for one in usable if size_bytes <= LARGEST[one]), usable[0])


def checked_size(image_format: ImageFormat, size_bytes: int) -> int:
    """The size a disk gets. Raises the driver's failure."""
    grain, most = GRAIN_BYTES[image_format], LARGEST[image_format]
    size = -(-size_bytes // grain) * grain
    if not 0 < size <= most:
        raise backend(79, "VDI Invalid size", f"VDI size must be between 1 MB and {most >> 20} MB")
    return size


def knows_format(release: Release, name: str) -> bool:
    """Whether transfers in this format exist: qcow2 came in the course of 8.3."""
    return name != "qcow2" or release == "8.3"


def no_differences() -> Failure:
    """What a delta export of anything but a VHD comes to."""
    return Failure("INTERNAL_ERROR", 'Failure("Cannot compute differences on non-VHD images")')


def _supported(database: Database, sr: str) -> list[ImageFormat]:
    kind = database.get("SR", sr)["type"]
    for _, driver in database.where("SM", type=kind):
        return [one for one in LARGEST if one in driver.get("supported_image_formats", ())]
    return []


def _preferred(database: Database, sr: str) -> list[ImageFormat]:
    for _, pbd in database.where("PBD", SR=sr):
        names = pbd["device_config"].get(PREFERRED, "").split(",")
        return [one for name in names for one in LARGEST if one == name]
    return []
