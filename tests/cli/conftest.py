"""Two sites: one backed up three times, shared by tests that only read; and a fresh one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xotest.site import Site, end_all, site_at


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three backups of two VMs, of which retention kept two. Only for commands that change nothing."""
    with site_at(tmp_path_factory.mktemp("shared")) as site:
        for number in range(3):
            site.pool.gc()
            site.write("web", 0, bytes([number + 1]) * 4096, offset=number * 65536)
            site.xobackup("run")
        yield site


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def copied(shared: Site, tmp_path: Path) -> Site:
    """The shared site's repository, copied: may be damaged, cleaned, merged."""
    return shared.copy(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A pool and an empty repository of this test's own."""
    with site_at(tmp_path) as fresh:
        yield fresh
