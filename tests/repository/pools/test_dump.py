"""A pool's dump: what is in it, and that nothing else passes for one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.repository.pools import dump as module
from xobackup.repository.pools.dump import BadDump, DumpReader, DumpSummary
from xotest.pool_dumps import HOST, POOL, dump_of


def read(data: bytes, piece: int = 1 << 20) -> DumpSummary:
    reader = DumpReader()
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    return reader.finish()


def test_the_summary_names_pool_hosts_repositories_and_machines() -> None:
    found = read(dump_of())
    assert found.pool is not None and (found.pool.uuid, found.pool.name) == (POOL, "main & more")
    assert found.master is not None and found.master.uuid == HOST
    assert [host.name for host in found.hosts] == ["host-0"] and [sr.name for sr in found.srs] == ["local"]
    assert [vm.name for vm in found.vms] == ["web", "db"], "no template, no control domain"
    assert (found.schema, found.generation, found.rows["VM"]) == ("5.785", "103", 4)
    assert found.size_bytes == len(dump_of()) and found.as_data()["master"]["uuid"] == HOST


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_the_size_of_the_pieces_does_not_matter(piece: int) -> None:
    assert read(dump_of(), piece) == read(dump_of())


def test_a_field_may_be_spelled_as_xapi_spells_it_elsewhere() -> None:
    assert [vm.name for vm in read(dump_of().replace(b"name__label", b"name_label")).vms] == ["web", "db"]


def test_no_beginning_of_a_dump_is_a_dump() -> None:
    whole = dump_of()
    for length in range(len(whole)):
        with pytest.raises(BadDump):
            read(whole[:length])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "it is empty"),
        (b"<database/>", "it holds no pool"),
        (dump_of(hosts=()), "it holds no host"),
        (b"not XML at all", "not XML"),
        (b"<html><body>busy</body></html>", "a tag <html>"),
        (dump_of().replace(b"<row ", b"<database ", 1), "a tag <database>"),
        (dump_of().replace(b"<database>", b"<!DOCTYPE database><database>"), "it declares a document type"),
        (dump_of() + b"HTTP/1.1 500 Internal Error", "not XML"),
        (dump_of().replace(b'<table name="host">', b'<table name="pool">'), "it holds two pools"),
        (dump_of().replace(b"UTF-8", b"UTF-7x"), "not XML"),
        (dump_of()[:-3] + b"\xff>", "not XML"),
    ],
)
def test_what_is_no_dump_says_why(data: bytes, told: str) -> None:
    with pytest.raises(BadDump, match=told):
        read(data)


def test_memory_is_bounded_by_the_largest_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAG_BYTES_MAX", 5000)
    assert read(dump_of(note="x" * 3000), 100)
    with pytest.raises(BadDump, match="expected tags of at most 5000 bytes"):
        read(dump_of(note="x" * 9000), 100)


def test_the_whole_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DUMP_BYTES_MAX", 500)
    with pytest.raises(BadDump, match="expected at most 500 bytes"):
        read(dump_of())


@given(st.binary(max_size=300), st.integers(0, len(dump_of())), st.integers(0, 60))
def test_any_bytes_raise_nothing_else(noise: bytes, at: int, skipped: int) -> None:
    whole = dump_of()
    with contextlib.suppress(BadDump):
        read(whole[:at] + noise + whole[at + skipped :], 64)
