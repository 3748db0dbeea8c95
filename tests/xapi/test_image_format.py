"""What format a disk has, and which SRs make qcow2."""

from __future__ import annotations

from typing import Any

import pytest

from xobackup.xapi.image_format import VHD_MAX_BYTES, ImageFormat, image_format_of, takes_qcow2

VHD, QCOW2 = ImageFormat


@pytest.mark.parametrize(
    ("vdi", "live", "found"),
    [
        ({"sm_config": {"image-format": "qcow2"}, "virtual_size": 1}, None, QCOW2),
        ({"sm_config": {"image-format": "vhd"}, "virtual_size": VHD_MAX_BYTES + 1}, None, VHD),
        ({"sm_config": {"image-format": "raw"}, "virtual_size": 1}, None, VHD),
        ({"sm_config": {}, "virtual_size": 1}, {"sm_config": {"image-format": "qcow2"}}, QCOW2),
        ({"sm_config": {"image-format": "vhd"}}, {"sm_config": {"image-format": "qcow2"}}, VHD),
        ({"sm_config": {}, "virtual_size": VHD_MAX_BYTES}, {}, VHD),
        ({"sm_config": {}, "virtual_size": VHD_MAX_BYTES + 1}, {}, QCOW2),
        ({"sm_config": {}, "virtual_size": str(VHD_MAX_BYTES + 1)}, None, QCOW2),
        ({"sm_config": None, "virtual_size": "much"}, None, VHD),
        ({}, None, VHD),
    ],
)
def test_the_format_of_a_disk(vdi: dict[str, Any], live: dict[str, Any] | None, found: ImageFormat) -> None:
    assert image_format_of(vdi, live) is found


DRIVERS = [{"type": "nfs", "supported_image_formats": ["vhd", "qcow2"]}, {"type": "ext"}]


@pytest.mark.parametrize(
    ("kind", "pbds", "found"),
    [
        ("nfs", [], True),
        ("nfs", [("sr", {})], True),
        ("nfs", [("sr", {"preferred-image-formats": "vhd, qcow2"})], True),
        ("nfs", [("sr", {"preferred-image-formats": "vhd"})], False),
        ("nfs", [("other", {"preferred-image-formats": "vhd"})], True),
        ("nfs", [("sr", None)], True),
        ("ext", [("sr", {"preferred-image-formats": "qcow2"})], False),
        ("unknown", [], False),
    ],
)
def test_which_srs_take_qcow2(kind: str, pbds: list[tuple[str, Any]], found: bool) -> None:
    records = [{"SR": sr, "device_config": config} for sr, config in pbds]
    assert takes_qcow2("sr", {"type": kind}, DRIVERS, records) is found
