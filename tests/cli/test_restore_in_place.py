"""``restore in-place``: the plan without ``--yes``, the deed with it."""

from __future__ import annotations

from xotest.site import Site


def disks(site: Site, vm: str) -> list[str]:
    ref = site.pool.vm_named(vm)
    return [site.pool.disk_sha256(disk) for disk in site.pool.vdis_of(ref)]


def test_a_vm_gets_its_disks_of_then(site: Site) -> None:
    site.configure()
    site.xobackup("run")
    then = disks(site, "web")
    site.write("web", 0, b"later", offset=4096)
    now = disks(site, "web")
    asked = site.xobackup("restore", "in-place", "web", "--remote", "nas", "--pool", "sim")
    assert "nothing was done" in asked.out and "it runs: it is shut down" in asked.out and disks(site, "web") == now
    refused = site.xobackup("restore", "in-place", "web", "--remote", "nas", "--pool", "sim", "--yes", code=2)
    assert "--shutdown" in refused.err and disks(site, "web") == now
    done = site.xobackup(
        *("restore", "in-place", "web", "--remote", "nas", "--pool", "sim", "--shutdown", "--yes", "--json"),
        *("--differential", "never"),
    )
    (record,) = done.of("restored-in-place")
    assert disks(site, "web") == then and record["started"] and record["downtime_s"] >= 0
    assert record["blocks_compared"] > 0 and len(record["disks"]) == 2
    kept = site.pool.model.get("VM", site.pool.model.by_uuid("VM", record["kept_vm"]))
    assert kept["name_label"].startswith("web (disks replaced by ") and kept["power_state"] == "Halted"


def test_one_disk(site: Site) -> None:
    site.configure()
    site.xobackup("run")
    then = disks(site, "web")
    for number in (0, 1):
        site.write("web", number, b"later", offset=4096)
    now = disks(site, "web")
    text = site.xobackup(
        "restore", "in-place", "web", "--remote", "nas", "--pool", "sim", "--disk", "web data", "--shutdown", "--yes"
    ).out
    assert disks(site, "web") == [now[0], then[1]] or disks(site, "web") == [then[1], now[0]]
    assert "what they replaced is on VM web (disks replaced by" in text
    wrong = site.xobackup("restore", "in-place", "web", "--remote", "nas", "--pool", "sim", "--disk", "9", code=2)
    assert "has no disk '9'" in wrong.err
