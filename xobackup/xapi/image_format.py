"""In which format an SR keeps a disk: VHD, up to 2040 GiB, or qcow2.

A VDI's ``sm_config`` may say so, else its snapshot's live disk may (as Xen Orchestra reads it); one that is larger
than any VHD is qcow2. A storage driver says what it can make (``SM.supported_image_formats``), the PBDs of an SR
which of that they prefer (``device_config:preferred-image-formats``); hosts older than 2025 know neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

KEY = "image-format"
PREFERRED = "preferred-image-formats"
VHD_MAX_BYTES = 2040 << 30
"""XAPI exports no larger disk as a VHD (``VDI_TOO_LARGE``), and no SR makes a larger one."""


class ImageFormat(StrEnum):
    VHD = "vhd"
    """Or anything else that is exported as one."""
    QCOW2 = "qcow2"


def image_format_of(vdi: Mapping[str, Any], live: Mapping[str, Any] | None = None) -> ImageFormat:
    """The format of a VDI, by its record and, for a snapshot, that of its live disk."""
    for record in (vdi, live or {}):
        config = record.get("sm_config")
        said = config.get(KEY) if isinstance(config, Mapping) else None
        if said:
            return ImageFormat.QCOW2 if said == ImageFormat.QCOW2 else ImageFormat.VHD
    return ImageFormat.QCOW2 if _size(vdi) > VHD_MAX_BYTES else ImageFormat.VHD


def takes_qcow2(
    sr_ref: str, sr: Mapping[str, Any], drivers: Iterable[Mapping[str, Any]], pbds: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether an SR makes qcow2 disks: its driver can, and its PBDs, if they say anything, allow it."""
    if not any(
        driver.get("type") == sr.get("type") and ImageFormat.QCOW2 in (driver.get("supported_image_formats") or ())
        for driver in drivers
    ):
        return False
    said = [_preferred(pbd) for pbd in pbds if pbd.get("SR") == sr_ref]
    return all(not preferred or ImageFormat.QCOW2 in preferred for preferred in said)


def _preferred(pbd: Mapping[str, Any]) -> list[str]:
    config = pbd.get("device_config")
    text = config.get(PREFERRED, "") if isinstance(config, Mapping) else ""
    return [name.strip() for name in str(text).split(",") if name.strip()]


def _size(vdi: Mapping[str, Any]) -> int:
    try:
        return int(vdi.get("virtual_size") or 0)
    except (TypeError, ValueError):
        return 0
