"""How disks are read, as the command line tells it and as the configuration asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xotest.site import SMALL, Site, site_at


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Site]:
    """A site whose pool offers NBD."""
    with site_at(tmp_path, replace(SMALL, nbd="nbd")) as site:
        yield site


def test_plan_run_and_journal_tell_the_way(fast: Site) -> None:
    assert "3 transfers by nbd-full" in fast.xobackup("plan").out
    out = fast.xobackup("run").err
    assert "changed block tracking of web system switched on" in out and "full of web data by NBD: " in out
    fast.write("web", 0, b"x")
    told = fast.xobackup("plan").out
    assert "3 transfers by cbt-nbd" in told
    routes = [
        route
        for vm in fast.xobackup("plan", "--json").of("plan")[0]["vms"]
        for disk in vm["disks"]
        for route in disk["routes"]
    ]
    assert {route["via"] for route in routes} == {"cbt-nbd"} and not any(route["not_via"] for route in routes)
    result = fast.xobackup("run", "--json")
    sent = result.of("disk-transferred")
    assert sorted(one["read_bytes"] for one in sent) == [0, 0, 65536] and {one["via"] for one in sent} == {"cbt-nbd"}
    assert {tuple(vm["vias"]) for vm in result.of("report")[0]["vms"]} == {("cbt-nbd",)}
    fast.xobackup("verify", "--remote", "nas")


def test_a_pool_without_nbd_is_read_by_streams_and_the_plan_says_why(site: Site) -> None:
    told = site.xobackup("plan").out
    assert "3 transfers by stream-full" in told
    assert "not nbd-full: no network has the purpose nbd or insecure_nbd (3 transfers)" in told
    assert "(" not in site.xobackup("run").out.split("2 full")[1].split("\n")[0], "nothing about ways"


def test_the_run_tells_why_a_better_way_was_not_taken(fast: Site) -> None:
    fast.configure('cbt = "off"')
    fast.xobackup("run")
    assert "not cbt-nbd: the job says cbt = off (3 transfers)" in fast.xobackup("run").out
    ways = [way for vm in fast.xobackup("run", "--json").of("report")[0]["vms"] for way in vm["ways"]]
    assert {(way["via"], *way["remotes"]) for way in ways} == {("list-nbd", "nas")}
    assert {tuple(way["not_via"]) for way in ways} == {("not cbt-nbd: the job says cbt = off",)}


def test_the_job_says_which_ways_it_wants(fast: Site) -> None:
    fast.configure('nbd = "off"')
    assert "3 transfers by stream-full" in fast.xobackup("plan").out
    fast.configure('nbd = "require"', "nbd_connections = 2", 'cbt = "use"')
    assert "3 transfers by nbd-full" in fast.xobackup("plan").out
    fast.configure('nbd = "sometimes"')
    assert "nbd" in fast.xobackup("plan", code=2).err
    fast.configure('nbd = "off"', "purge_snapshot_data = true")
    assert "purge_snapshot_data needs NBD" in fast.xobackup("plan", code=2).err


def test_purging_from_the_command_line(fast: Site) -> None:
    fast.configure("purge_snapshot_data = true")
    assert "the snapshot keeps its data" in fast.xobackup("run").err
    fast.write("db", 0, b"x")
    assert "1 disk of the snapshot purged" in fast.xobackup("run").err
    assert {vdi["type"] for _, vdi in fast.pool.model.where("VDI", is_a_snapshot=True)} == {"cbt_metadata"}


@pytest.mark.parametrize(
    ("nbd", "words"),
    [
        ("nbd", "ok       pool sim: NBD: TLS is required (Pool-wide network"),
        ("", "ok       pool sim: NBD: no network has the purpose nbd"),
        ("insecure_nbd", "warning  pool sim: NBD: without TLS"),
    ],
)
def test_doctor_tells_what_the_pool_offers(tmp_path: Path, nbd: str, words: str) -> None:
    with site_at(tmp_path, replace(SMALL, nbd=nbd)) as site:
        told = site.xobackup("doctor").out
        assert words in told and "CBT: 1 of 1 SR can track changed blocks" in told
