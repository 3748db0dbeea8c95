"""Limits in the configuration: refused when they make no sense, told by ``plan`` and ``run``, in force."""

from __future__ import annotations

import re

import pytest

from xotest.site import Site


def configure(site: Site, limits: str, *job: str, remote: str = "") -> None:
    site.configure(*job, replace=("[jobs.nightly]", f"{remote}\n[limits]\n{limits}\n[jobs.nightly]"))


def test_plan_tells_the_limits_in_force(site: Site) -> None:
    configure(
        site,
        'vms_max = 3\nrate_limit_mib_s = 400\ntimezone = "UTC"\ntransfers_per_pool = 0',
        "rate_limit_mib_s = 200",
        'bandwidth = [{ from = "00:00", to = "24:00", mib_s = 50 }]',
        "limits.transfers_per_sr = 1",
        remote="rate_limit_mib_s = 80",
    )
    (plan,) = site.xobackup("plan", "--json").of("plan")
    assert plan["limits"] == [
        "bandwidth of job nightly: 50 MiB/s from 00:00 to 24:00 (UTC), otherwise 200 MiB/s; "
        "now 50 MiB/s from 00:00 to 24:00",
        "bandwidth of all jobs: 400 MiB/s",
        "bandwidth to remote nas: 80 MiB/s",
        "at a time, job nightly: 2 VMs, 4 disks of a VM, 1 transfer of an SR",
        "at a time, all jobs: 3 VMs, 4 snapshots of a pool, 2 snapshots of an SR, 1 deletion of snapshots of an SR",
    ]
    assert "bandwidth of all jobs: 400 MiB/s" in site.xobackup("plan").out
    result = site.xobackup("run", "--json")
    assert result.of("run-started")[0]["limits"] == plan["limits"]


@pytest.mark.parametrize(
    ("limits", "job", "words"),
    [
        ("transfers_per_sr = -1", "", "limits.transfers_per_sr"),
        ("transfers_per_disk = 1", "", "limits.transfers_per_disk: there is no such key"),
        ('timezone = "Mars/Olympus"', "", "limits.timezone"),
        ('bandwidth = [{ from = "8", to = "18:00", mib_s = 5 }]', "", "from: expected a time such as 08:00"),
        ("", 'bandwidth = [{ from = "08:00", to = "08:00", mib_s = 5 }]', "two different times"),
        ("", 'bandwidth = [{ from = "08:00", to = "18:00", mib_s = 0 }]', "jobs.nightly.bandwidth"),
        ("", 'sr_free_min = "5 percent"', 'expected a share such as "5 %"'),
        ("", "sr_free_min = -3", 'expected a share such as "5 %"'),
        ("", "remote_free_min = true", 'expected a share such as "5 %"'),
        ("", 'space_check = "maybe"', "jobs.nightly.space_check"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(shared: Site, tmp_path, limits: str, job: str, words: str) -> None:
    site = Site(directory=tmp_path, pool=shared.pool)
    configure(site, limits, job)
    assert words in site.xobackup("config", "check", code=2).err


@pytest.mark.parametrize(
    ("text", "floor"),
    [
        ('"5 %"', (0.05, 0)),
        ('"2.5%"', (0.025, 0)),
        ('"20 GiB"', (0.0, 20 << 30)),
        ('"20G"', (0.0, 20 << 30)),
        ("7", (0.0, 7)),
    ],
)
def test_floors_are_shares_or_sizes(shared: Site, tmp_path, text: str, floor: tuple[float, int]) -> None:
    from xobackup.cli.jobs import job_of
    from xobackup.config.load import load_configuration

    site = Site(directory=tmp_path, pool=shared.pool)
    site.configure(f"sr_free_min = {text}")
    found = job_of(load_configuration(site.config), "nightly").settings.sr_free_min
    assert (found.share, found.size_bytes) == pytest.approx(floor)


def test_plan_and_doctor_tell_of_an_sr_that_is_nearly_full_or_does_not_coalesce(site: Site) -> None:
    site.pool.fill_sr(site.pool.default_sr, 64 << 20)
    site.pool.call("SR.add_to_other_config", site.pool.default_sr, "gc", "false")
    assert "SR Local storage has 64.0 MiB free" in site.xobackup("plan").out
    told = site.xobackup("doctor").out
    assert "SR Local storage: 64.0 MiB free of 1.0 TiB" in told
    assert "SR Local storage does not coalesce: other-config:gc=false of the SR" in told
    site.configure('space_check = "refuse"')
    assert "SR Local storage has 64.0 MiB free" in site.xobackup("run", code=1).err


def test_the_attempts_of_a_vm_are_in_the_table_and_the_report(site: Site) -> None:
    site.configure("retry_pause_s = 0", replace=("retries = 0", "retries = 1"))
    site.pool.faults.fail_call("VM.snapshot", "INTERNAL_ERROR", ["it stumbled"], times=1)
    result = site.xobackup("run", "--vm", "db", "--json")
    (report,) = result.of("report")
    (vm,) = report["vms"]
    assert vm["outcome"] == "ok" and vm["attempts"] == 2
    assert [one["number"] for one in vm["tried"]] == [1] and "it stumbled" in vm["tried"][0]["error"]
    site.pool.faults.fail_call("VM.snapshot", "INTERNAL_ERROR", ["it stumbled"], times=2)
    said = site.xobackup("run", "--vm", "db", code=1)
    assert said.out.count("it stumbled") == 2 and "attempt 2:" in said.out


def test_a_vm_waits_for_its_chain_others_go_first_and_the_refusal_says_what_was_seen(site: Site) -> None:
    db = site.pool.vm_named("db")
    for number in range(4):
        site.pool.call("VM.snapshot", db, f"by hand {number}")
        site.write("db", 0, bytes([number]))
    for ref in list(site.pool.model.get("VM", db)["snapshots"]):
        vdis = site.pool.vdis_of(ref)
        site.pool.call("VM.destroy", ref)
        for vdi in vdis:
            site.pool.call("VDI.destroy", vdi)
    site.pool.call("SR.add_to_other_config", site.pool.default_sr, "gc", "false")
    site.configure("chain_wait_s = 1.2", "vms_max = 1")
    result = site.xobackup("run", code=3)
    said = result.err.splitlines()
    waits = next(number for number, line in enumerate(said) if line.startswith("db: waits at most 1.2 s"))
    assert waits < next(number for number, line in enumerate(said) if line.startswith("web: ok"))
    assert "disk db data on SR Local storage has 3 links waiting to be coalesced" in said[waits]
    assert re.search(r"watched for \d+ s: nothing changed, the storage does not coalesce it", result.err)
    assert "probably because of other-config:gc=false of the SR" in result.err
    assert "hint: let the storage coalesce again" in result.err
    (plan,) = site.xobackup("plan", "--json").of("plan")
    refused = next(vm for vm in plan["vms"] if vm["name"] == "db")
    assert refused["refusal"].startswith("unhealthy VDI chain") and "gc=false of the SR" in refused["hint"]
    assert refused["hint"].startswith("a run backs up others first and waits at most 1 s for it")
