"""``restore vm``: a new VM with the restore point's disks, where and how the options say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from xobackup.simpool import SrSpec
from xotest.site import SMALL, Site, site_at

SPEC = replace(
    SMALL,
    srs=(SrSpec(name="Local storage"), SrSpec(name="fast"), SrSpec(name="ISO library", type="iso")),
    networks=("eth0 network", "backup network"),
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(tmp_path_factory.mktemp("target"), SPEC) as site:
        site.xobackup("run")
        yield site


def restored(target: Site, *options: str) -> dict[str, Any]:
    command = ("restore", "vm", "web", "--remote", "nas", "--pool", "sim", "--new-macs", "--json", *options)
    (record,) = target.xobackup(*command).of("restored")
    return record


def vm_record(target: Site, uuid: str) -> dict[str, Any]:
    return target.pool.model.get("VM", target.pool.call("VM.get_by_uuid", uuid))


def sr_names(target: Site, vm: str) -> list[str]:
    model = target.pool.model
    refs = target.pool.vdis_of(target.pool.call("VM.get_by_uuid", vm))
    return [model.get("SR", model.get("VDI", ref)["SR"])["name_label"] for ref in refs]


def test_the_new_vm_has_the_disks_of_the_restore_point(target: Site) -> None:
    record = restored(target, "--name", "web again")
    new = target.pool.call("VM.get_by_uuid", record["vm"])
    assert target.pool.model.get("VM", new)["name_label"] == "web again"
    assert [target.pool.disk_sha256(ref) for ref in target.pool.vdis_of(new)] == [
        target.disk_sha256("web", number) for number in (0, 1)
    ]
    assert record["started"] is False and record["blocks_without_digest"] == 0


def test_a_disk_goes_where_it_is_sent_or_is_left_out(target: Site) -> None:
    assert sr_names(target, restored(target, "--sr", "fast")["vm"]) == ["fast", "fast"]
    assert sr_names(target, restored(target, "--disk-sr", "web data=fast")["vm"]) == ["Local storage", "fast"]
    assert sr_names(target, restored(target, "--disk-sr", "1=")["vm"]) == ["Local storage"]


def test_a_nic_goes_to_the_network_named(target: Site) -> None:
    uuid = restored(target, "--network", "0=backup network")["vm"]
    vif = target.pool.model.get("VIF", vm_record(target, uuid)["VIFs"][0])
    assert target.pool.model.get("network", vif["network"])["name_label"] == "backup network"


def test_it_is_started_when_asked(target: Site) -> None:
    record = restored(target, "--start")
    assert record["started"] is True and vm_record(target, record["vm"])["power_state"] == "Running"


def test_a_dry_run_creates_nothing(target: Site) -> None:
    before = set(target.pool.model.records("VM")), set(target.pool.model.records("VDI"))
    result = target.xobackup("restore", "vm", "web", "--remote", "nas", "--pool", "sim", "--dry-run")
    assert "web data" in result.out and "Local storage" in result.out and "nothing was created" in result.out
    assert (set(target.pool.model.records("VM")), set(target.pool.model.records("VDI"))) == before
    (plan,) = target.xobackup(
        "restore", "vm", "web", "--remote", "nas", "--pool", "sim", "--dry-run", "--json"
    ).records
    assert plan["kind"] == "restore-plan" and [disk["sr"] for disk in plan["disks"]] == ["Local storage"] * 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--sr", "nope"], "SR 'nope'"),
        (["--network", "0=nope"], "network 'nope'"),
        (["--network", "9=eth0 network"], "NIC '9'"),
        (["--disk-sr", "9=fast"], "disk '9'"),
        (["--disk-sr", "fast"], "--disk-sr: expected KEY=VALUE, found 'fast'"),
        (["--pool", "rome"], "there is no pool 'rome' (known: sim)"),
        (["--remote", "nsa"], "there is no remote 'nsa' (known: nas)"),
    ],
)
def test_names_that_match_nothing_are_refused_before_anything_is_created(
    target: Site, options: list[str], expected: str
) -> None:
    before = set(target.pool.model.records("VM")), set(target.pool.model.records("VDI"))
    error = target.xobackup("restore", "vm", "web", "--remote", "nas", "--pool", "sim", *options, code=2).err
    assert expected in error
    assert (set(target.pool.model.records("VM")), set(target.pool.model.records("VDI"))) == before


def test_a_disk_starts_from_its_snapshot_unless_told_not_to(target: Site) -> None:
    command = ("restore", "vm", "web", "--remote", "nas", "--pool", "sim", "--dry-run")
    assert "starts from snapshot" in target.xobackup(*command).out
    (plan,) = target.xobackup(*command, "--json").records
    assert all(disk["base"] and disk["write_bytes_max"] == 0 for disk in plan["disks"])
    assert "starts from" not in target.xobackup(*command, "--differential", "never").out
    refused = target.xobackup(*command, "--differential", "require", "--sr", "fast", code=2).err
    assert "it is on another SR" in refused
    assert "expected auto, never or require" in target.xobackup(*command, "--differential", "some", code=2).err
