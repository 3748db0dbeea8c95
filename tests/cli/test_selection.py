"""What a job leaves out, by every rule of the configuration, and disks that need a word."""

from __future__ import annotations

import pytest

from xotest.site import Site


def disks_of(site: Site) -> dict[str, dict[str, str]]:
    """Disks by VM in a plan: ``kept`` or why left out."""
    (plan,) = site.xobackup("plan", "--json").of("plan")
    found = {}
    for vm in plan["vms"]:
        found[vm["name"]] = {disk["name"]: "kept" for disk in vm["disks"]}
        found[vm["name"]] |= {disk["name"]: disk["reason"] for disk in vm["skipped_disks"]}
    return found


def vdi(site: Site, vm: str, number: int) -> str:
    return site.pool.vdis_of(site.pool.vm_named(vm))[number]


@pytest.mark.parametrize(
    ("rule", "left_out"),
    [
        ('name = "web d*"', ["web data"]),
        ('tag = "scratch"', ["web data"]),
        ('device = "0"', ["web system", "db data"]),
        ('larger_than = "7 MiB"', ["web system"]),
        ("larger_than = 6291455", ["web system", "web data", "db data"]),
        ('larger_than = "6 MiB"', ["web system"]),
        ('sr = "Local storage"', ["web system", "web data", "db data"]),
        ('name = "web*", larger_than = "7 MiB"', ["web system"]),
    ],
)
def test_disks_are_left_out_by_rules(site: Site, rule: str, left_out: list[str]) -> None:
    site.pool.call("VDI.add_tags", vdi(site, "web", 1), "scratch")
    site.configure(f"disks.exclude = [{{ {rule} }}]")
    (plan,) = site.xobackup("plan", "--json").of("plan")
    skipped = [disk["name"] for vm in plan["vms"] for disk in vm["skipped_disks"]]
    all_excluded = [one["name"] for one in plan["skipped"] if one["why"] == "no-disks"]
    whole = {"web": ["web system", "web data"], "db": ["db data"]}
    assert sorted([*skipped, *(disk for vm in all_excluded for disk in whole[vm])]) == sorted(left_out)
    assert not plan["warnings"]


@pytest.mark.parametrize("key", ["uuid", "sr"])
def test_disks_are_left_out_by_uuid_and_by_the_srs_uuid(site: Site, key: str) -> None:
    record = site.pool.model.get("VDI", vdi(site, "web", 0))
    uuid = record["uuid"] if key == "uuid" else site.pool.model.get("SR", record["SR"])["uuid"]
    site.configure(f'disks.exclude = [{{ {key} = "{uuid}", device = "0" }}]')
    assert disks_of(site)["web"]["web system"].startswith("it is excluded by the rule ")
    assert disks_of(site)["web"]["web data"] == "kept"


def test_vms_are_chosen_by_the_host_they_run_on_or_prefer(site: Site) -> None:
    (host,) = site.pool.model.records("host").values()
    site.configure(replace=('{ tag = "prod" }', f'{{ host = "{host["name_label"]}" }}'))
    assert set(disks_of(site)) == {"web", "db", "scratch"}
    site.pool.call("VM.hard_shutdown", site.pool.vm_named("scratch"))
    site.configure(replace=('{ tag = "prod" }', f'{{ host = "{host["uuid"]}" }}'))
    assert set(disks_of(site)) == {"web", "db"}, "it runs nowhere and prefers no host"
    (ref,) = site.pool.model.records("host")
    site.pool.call("VM.set_affinity", site.pool.vm_named("scratch"), ref)
    assert set(disks_of(site)) == {"web", "db", "scratch"}


def test_rules_that_match_nothing_are_told(site: Site) -> None:
    site.configure('disks.exclude = [{ name = "swpa*" }]', 'vms.exclude = [{ tag = "tset" }]')
    disk = "no disk of a chosen VM matches the rule name swpa* (disks.exclude)"
    vm = "no VM matches the rule tag tset (vms.exclude)"
    told = site.xobackup("plan").out
    assert f"warning: {disk}" in told and f"warning: {vm}" in told
    doctor = site.xobackup("doctor").out
    assert f"warning  job nightly: {disk}" in doctor and f"warning  job nightly: {vm}" in doctor
    assert "matches the rule" not in site.xobackup("plan", "--vm", "db").out


@pytest.mark.parametrize("size", ['"lots"', '"5 %"', "-1", '"-1 GiB"', '""'])
def test_what_is_no_size_is_refused(site: Site, size: str) -> None:
    site.configure(f"disks.exclude = [{{ larger_than = {size} }}]")
    assert "jobs.nightly.disks.exclude.0.larger_than: " in site.xobackup("config", "check", code=2).err


def test_an_empty_rule_is_refused(site: Site) -> None:
    site.configure("disks.exclude = [{}]", 'vms.exclude = [{ host = "" }]')
    error = site.xobackup("config", "check", code=2).err
    assert "expected at least one of uuid, name, tag, device, sr, larger_than" in error
    assert "expected at least one of uuid, name, tag, power_state, host" in error


def test_a_disk_that_cannot_be_snapshotted_is_refused_with_its_reason_or_left_out(site: Site) -> None:
    site.pool.model.update("VDI", vdi(site, "web", 1), sharable=True)
    site.configure()
    told = site.xobackup("plan").out
    assert "refused" in told
    (plan,) = site.xobackup("plan", "--json").of("plan")
    refusal = next(vm["refusal"] for vm in plan["vms"] if vm["name"] == "web")
    uuid = site.pool.model.get("VDI", vdi(site, "web", 1))["uuid"]
    assert "no snapshot can be taken of disk web data: it is sharable" in refusal and uuid in refusal
    site.xobackup("run", code=3)
    site.configure(f'disks.exclude = [{{ uuid = "{uuid}" }}]')
    site.xobackup("run")
    assert "web" in {vm["name"] for vm in site.xobackup("run", "--json").of("report")[0]["vms"]}


def test_a_passed_through_device_needs_only_to_be_left_out(site: Site) -> None:
    model = site.pool.model
    sr = model.get("VDI", vdi(site, "web", 0))["SR"]
    site.configure()
    model.update("SR", sr, type="udev")
    (plan,) = site.xobackup("plan", "--json").of("plan")
    assert all("passed through (SR Local storage of type udev)" in vm["refusal"] for vm in plan["vms"])


def test_shared_and_read_only_disks_are_noted_and_backed_up(site: Site) -> None:
    web, db = site.pool.vm_named("web"), site.pool.vm_named("db")
    shared = vdi(site, "db", 0)
    record = {
        "VM": web, "VDI": shared, "userdevice": "5", "bootable": False, "mode": "RO", "type": "Disk",
        "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {},
    }  # fmt: skip
    site.pool.call("VBD.create", record)
    site.configure()
    told = site.xobackup("plan").out
    assert "db data: it is attached to db too, and backed up with each of them" in " ".join(told.split())
    assert "db data: it is attached read-only, and backed up all the same" in " ".join(told.split())
    site.xobackup("run")
    assert db
