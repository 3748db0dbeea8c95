"""A consistent group from the configuration to `backups show`, as an operator meets it."""

from __future__ import annotations

import shutil

import pytest

from xotest.site import Site


def test_a_group_is_planned_backed_up_and_shown(site: Site) -> None:
    site.configure('consistent = { tag = "prod", if_one_fails = "go-on" }')
    told = "consistent group: db, web (snapshots first, 4 at a time; if one fails, the others are backed up)"
    assert told in site.xobackup("plan").out
    report = site.xobackup("run", "--json").of("report")[0]
    group = report["group"]
    assert sorted(group["vms"]) == sorted([site.uuid("web"), site.uuid("db")]) and group["span_s"] >= 0
    assert {vm["group"] for vm in report["vms"]} == {group["id"]}
    assert "consistent group" in site.xobackup("run").out
    shown = site.xobackup("backups", "show", "web")
    assert f"belongs to the consistent group {group['id'][:8]} with db" in shown.out
    points = site.xobackup("backups", "show", "web", "--json").of("restore-point")
    assert points[0]["group"] == group["id"] and len({point["group"] for point in points}) == 2
    shutil.rmtree(site.repository / "xo-vm-backups" / site.uuid("db"))
    assert "with db" not in site.xobackup("backups", "show", "web").out
    assert "(no restore point of the group here)" in site.xobackup("backups", "show", "web").out


def test_a_tag_that_nobody_has_is_told(site: Site) -> None:
    site.configure('consistent = { tag = "erp" }')
    assert "consistent group: no chosen VM has the tag erp" in site.xobackup("plan").out
    assert "warning  job nightly: consistent group: no chosen VM has the tag erp" in site.xobackup("doctor").out


@pytest.mark.parametrize("value", ['"yes"', "{ tags = 3 }", '{ if_one_fails = "pray" }', "{ snapshots_max = 0 }"])
def test_what_makes_no_sense_is_refused(site: Site, value: str) -> None:
    site.configure(f"consistent = {value}")
    assert "jobs.nightly.consistent" in site.xobackup("config", "check", code=2).err
