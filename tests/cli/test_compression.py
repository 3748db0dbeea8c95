"""Layout and compression of a remote by its configuration; a chain keeps the codec it began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xotest import xo_rules
from xotest.site import Site


def kept(site: Site, *lines: str) -> None:
    url = f'url = "file://{site.repository}"'
    site.configure(replace=(url, "\n".join([url, *lines])))


def filters_of(site: Site) -> list[list[str]]:
    paths = sorted(site.repository.glob("xo-vm-backups/*/vdis/*/*/data/*/chunk-filters.json"))
    return [json.loads(path.read_bytes()) for path in paths]


@pytest.mark.parametrize(
    ("lines", "filters"),
    [
        ((), ["brotli"]),
        (('compression = "zstd"', "compression_level = 3"), ["zstd"]),
        (('compression = "zstd"', 'compression_level = "auto"'), ["zstd"]),
        (('compression = "gzip"',), ["gzip"]),
        (('compression = "none"',), []),
    ],
)
def test_blocks_are_compressed_as_asked(site: Site, lines: tuple[str, ...], filters: list[str]) -> None:
    kept(site, 'layout = "directories"', *lines)
    site.xobackup("run", "--vm", "db")
    assert filters_of(site) == [filters]
    assert "no damage found" in site.xobackup("verify").out
    if filters != ["zstd"]:
        xo_rules.assert_nothing(site.repository)
    told = site.xobackup("plan", "--vm", "db").out
    assert ("Xen Orchestra" in told) == (filters != ["brotli"])
    assert ("cannot read" in told) == (filters == ["zstd"])


def test_a_chain_keeps_its_codec_until_it_ends(site: Site) -> None:
    kept(site, 'layout = "directories"')
    site.xobackup("run", "--vm", "db")
    kept(site, 'layout = "directories"', 'compression = "zstd"')
    site.pool.gc()
    site.write("db", 0, b"more" * 100)
    site.xobackup("run", "--vm", "db")
    assert filters_of(site) == [["brotli"], ["brotli"]]
    site.xobackup("run", "--vm", "db", "--full")
    assert filters_of(site)[-1] == ["zstd"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (('compression = "zstd"',), 'only with layout = "directories"'),
        (('layout = "files"', 'compression = "zstd"'), 'only with layout = "directories"'),
        (('layout = "directories"', "compression_level = 3"), 'only for compression = "zstd"'),
        (('layout = "directories"', 'compression = "zstd"', "compression_level = 99"), "compression_level"),
        (('layout = "directories"', 'compression = "rar"'), "compression"),
        (('layout = "boxes"',), "layout"),
    ],
)
def test_what_means_nothing_is_refused(shared: Site, tmp_path: Path, lines: tuple[str, ...], told: str) -> None:
    site = Site(directory=tmp_path, pool=shared.pool)
    kept(site, *lines)
    assert told in site.xobackup("config", "check", code=2).err
