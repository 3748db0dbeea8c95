from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.geometry import Geometry, geometry_of, xo_geometry

MIB, GIB = 1 << 20, 1 << 30
XO_VECTORS = [
    (2 * MIB, (61, 4, 17)),
    (15_000_576, (431, 4, 17)),
    (16 * MIB, (482, 4, 17)),
    (64 * MIB, (964, 8, 17)),
    (100 * MIB, (1004, 12, 17)),
    (504 * MIB, (1024, 16, 63)),
    (GIB, (2081, 16, 63)),
    (8 * GIB, (16645, 16, 63)),
    (10 * GIB, (20806, 16, 63)),
    (127 * GIB, (65279, 16, 255)),
    (128 * GIB, (65535, 16, 255)),
    (2040 * GIB, (65535, 16, 255)),
]
# What qemu-img makes of sizes whose product its message shows, and libvhd of the fixtures.
OUR_VECTORS = [
    (64 * MIB, (963, 8, 17)),
    (66 * MIB, (993, 8, 17)),
    (8 * GIB, (16644, 16, 63)),
    (100 * GIB, (51400, 16, 255)),
    (2040 * GIB, (65535, 16, 255)),
    (0, (0, 4, 17)),
]


@pytest.mark.parametrize(("size_bytes", "expected"), XO_VECTORS)
def test_xen_orchestra_s_vectors(size_bytes: int, expected: tuple[int, int, int]) -> None:
    assert xo_geometry(size_bytes) == expected


@pytest.mark.parametrize(("size_bytes", "expected"), OUR_VECTORS)
def test_the_specification_s_vectors(size_bytes: int, expected: tuple[int, int, int]) -> None:
    assert geometry_of(size_bytes) == expected


@pytest.mark.parametrize(
    ("size_bytes", "lost"), [(64 * MIB, 53_248), (8 * GIB, 32_768), (100 * GIB, 1_638_400), (127 * GIB, 0)]
)
def test_the_product_falls_short_as_qemu_shows(size_bytes: int, lost: int) -> None:
    if lost:
        assert size_bytes - geometry_of(size_bytes).size_bytes == lost
    assert geometry_of(size_bytes).size_bytes <= size_bytes


@given(st.integers(0, 1 << 42))
def test_the_product_never_exceeds_the_size_and_fits_its_fields(size_bytes: int) -> None:
    geometry = geometry_of(size_bytes)
    assert geometry.size_bytes <= size_bytes
    assert 0 <= geometry.cylinders <= 65535
    assert 4 <= geometry.heads <= 16
    assert geometry.sectors in (17, 31, 63, 255)
    assert isinstance(geometry, Geometry)


@given(st.integers(0, 1 << 42))
def test_xen_orchestra_rounds_up_to_at_most_one_cylinder_more(size_bytes: int) -> None:
    assert 0 <= xo_geometry(size_bytes).cylinders - geometry_of(size_bytes // 512 * 512).cylinders <= 1 or (
        xo_geometry(size_bytes)[1:] != geometry_of(size_bytes)[1:]
    )
