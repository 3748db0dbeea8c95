"""``[jobs.NAME.health_check]``: after its backups a job boots what it published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from xobackup.simpool import HostSpec, VmSpec
from xobackup.simpool.spec import GIB, DiskSpec
from xotest.site import SMALL, Site, site_at

DISK = DiskSpec(name="d", size_bytes=4 << 20, filled_bytes=1 << 20)
SPEC = replace(
    SMALL,
    hosts=(HostSpec(memory_bytes=24 * GIB),),
    vms=(
        VmSpec(name="good", disks=(DISK,), guest="tools=0.2", tags=("prod", "gold"), power_state="Halted"),
        VmSpec(name="mute", disks=(DISK,), guest="tools=never", tags=("prod",), power_state="Halted"),
    ),
)
CHECK = '[jobs.nightly.health_check]\nsr = "Local storage"\ntimeout = "2s"\n'


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(tmp_path_factory.mktemp("checked"), spec=SPEC) as made:
        yield made


def configured(site: Site, text: str) -> None:
    site.configure()
    site.config.write_text(site.config.read_text() + text)


def vms(site: Site) -> set[str]:
    found = site.pool.model.where("VM", is_a_snapshot=False, is_a_template=False, is_control_domain=False)
    return {record["name_label"] for _, record in found}


def test_what_a_run_published_is_booted_and_removed(site: Site) -> None:
    configured(site, CHECK)
    plan = site.xobackup("plan").out
    assert "health check of good on SR Local storage of sim: never checked" in plan
    result = site.xobackup("run", code=3)
    assert "health check of good: up in" in result.out and "health check of mute: FAILED" in result.out
    assert "health check of mute" in result.err
    assert vms(site) == {"good", "mute"}, "nothing of the checks is left"
    rows = {vm["name"]: vm for vm in site.xobackup("status", "--json").of("vm")}
    assert rows["mute"]["last_outcome"] == "ok", "its backup is as good as before"
    assert "last health check" in site.xobackup("backups", "show", "--remote", "nas", "good").out
    (run,) = site.xobackup("history", "list", "--json").of("run")
    assert run["outcome"] == "some-failed" and (run["ok"], run["failed"]) == (2, 0)
    shown = site.xobackup("history", "show", run["run_id"]).out
    assert "health check of" in shown and "up in" in shown and "FAILED" in shown


def test_by_tag_and_by_age(site: Site) -> None:
    configured(site, CHECK + 'tags = ["gold"]\nevery = "7d"\n')
    assert "health check of good: up in" in site.xobackup("run").out
    plan = site.xobackup("plan").out
    assert "no health check of good: it was checked 0.0 days ago" in plan
    assert "no health check of mute: it has no tag gold" in plan
    assert "health check" not in site.xobackup("run").out


def test_an_sr_that_is_not_there_is_said_and_costs_no_backup(site: Site) -> None:
    configured(site, CHECK.replace("Local storage", "nowhere"))
    result = site.xobackup("run", code=3)
    assert "nowhere" in result.err
    assert {vm["name"] for vm in site.xobackup("backups", "list", "--remote", "nas", "--json").of("vm")} == vms(site)


@pytest.mark.parametrize(("lines", "told"), [
    ('sr = ""', "at least 1 character"),
    ('sr = "x"\ntcp = [80]', "needs a network"),
    ('sr = "x"\ntools = false', "have to say that the VM is up"),
    ('sr = "x"\nremote = "other"', "is no remote of the job"),
    ('sr = "x"\npool = "other"', "there is no pool 'other'"),
    ('sr = "x"\nevery = "often"', "expected a time"),
])  # fmt: skip
def test_what_cannot_work_is_refused(site: Site, lines: str, told: str) -> None:
    configured(site, f"[jobs.nightly.health_check]\n{lines}\n")
    assert told in site.xobackup("config", "check", code=2).err
