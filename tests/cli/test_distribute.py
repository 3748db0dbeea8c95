"""A job that spreads its VMs over its remotes, by its configuration."""

from __future__ import annotations

from collections import Counter

from xotest.site import Site


def test_plan_shows_which_remote_and_why_and_run_does_it(site: Site) -> None:
    site.other.mkdir(exist_ok=True)
    site.configure("distribute = true", remotes='["nas", "other"]')
    (plan,) = site.xobackup("plan", "--json").of("plan")
    planned = {vm["name"]: vm["remotes"] for vm in plan["vms"]}
    assert Counter(remote for remotes in planned.values() for remote in remotes) == {"nas": 1, "other": 1}
    assert all("free, as much as anywhere" in vm["placement"]["reason"] for vm in plan["vms"])
    site.xobackup("run")
    told = site.xobackup("plan").out
    assert told.count("its chain is there") == 2 and "full" not in told
    site.configure("distribute = true")
    assert "distribute: needs at least two remotes to choose from, found 1" in site.xobackup("plan", code=2).err
