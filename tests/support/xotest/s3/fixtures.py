"""Stores that live as long as the test session of one worker; each test takes a bucket of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xotest.s3.stores import Store, moto, radosgw, rclone

KINDS = ("moto", "radosgw", "radosgw https")


@pytest.fixture(scope="session")
def moto_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with moto(tmp_path_factory.mktemp("moto")) as store:
        yield store


@pytest.fixture(scope="session")
def radosgw_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    with radosgw(tmp_path_factory.mktemp("radosgw")) as stores:
        yield stores


@pytest.fixture(scope="session")
def rclone_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with rclone(tmp_path_factory.mktemp("rclone")) as store:
        yield store


@pytest.fixture(scope="session", params=KINDS)
def s3_store(request: pytest.FixtureRequest) -> Store:
    """Each of those that keep every promise."""
    if request.param == "moto":
        found = request.getfixturevalue("moto_store")
    else:
        found = request.getfixturevalue("radosgw_stores")[request.param.endswith("https")]
    assert isinstance(found, Store)
    return found
