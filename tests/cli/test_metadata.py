"""``metadata`` and the jobs that save pools' databases: plan, run, list, verify, clean, restore."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from xotest import golden
from xotest.site import Site, site_at, xobackup
from xotest.xo_rules import assert_pools_conformant

META = ("[jobs.meta]", 'mode = "metadata"', 'pools = ["sim"]', 'remotes = ["nas", "other"]', "retention = 2")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three runs on two remotes, of which two are kept. Not to be changed."""
    with site_at(tmp_path_factory.mktemp("saved")) as site:
        configure(site)
        for _ in range(3):
            site.xobackup("run", "meta")
        yield site


def configure(site: Site, *lines: str) -> None:
    site.other.mkdir(exist_ok=True)
    site.configure(*lines, *META, remotes='["nas", "other"]')


def pool_uuid(site: Site) -> str:
    (record,) = site.pool.model.records("pool").values()
    return str(record["uuid"])


@pytest.fixture
def own(saved: Site, tmp_path: Path) -> Site:
    """The saved site's repository, copied: may be damaged."""
    copy = saved.copy(tmp_path)
    copy.configure(remotes='["nas"]')
    return copy


def test_a_run_reports_each_pool(saved: Site) -> None:
    result = saved.xobackup("plan", "meta")
    assert "1 database of pools" in result.out and "always whole; 2 backups are kept" in result.out
    (plan,) = saved.xobackup("plan", "meta", "--json").of("plan")
    assert plan["vms"] == [] and len(plan["pools"]) == 1 and len(plan["pools"][0]["expires"]["nas"]) == 1
    for repository in (saved.repository, saved.other):
        assert len(assert_pools_conformant(repository)) == 2


def test_a_run_says_what_it_saved(tmp_path: Path) -> None:
    with site_at(tmp_path) as site:
        configure(site, "pool_metadata = true")
        result = site.xobackup("run", "--json")
        reports = result.of("report")
        assert [(len(report["vms"]), len(report["pools"])) for report in reports] == [(2, 1), (0, 1)]
        assert [event["remote"] for event in result.of("pool-saved")] == ["nas", "other"] * 2
        assert {event["outcome"] for event in result.of("pool-ended")} == {"ok"}
        assert "databases of pools" in site.xobackup("run").out
        narrow = site.xobackup("run", "nightly", "--vm", "web", "--json")
        assert [len(report["pools"]) for report in narrow.of("report")] == [0], "only that VM was asked for"


def test_one_remote_that_fails_is_told_and_the_other_has_it(tmp_path: Path) -> None:
    with site_at(tmp_path) as site:
        configure(site)
        (site.other / "xo-pool-metadata-backups").write_text("a file in the way")
        result = site.xobackup("run", "meta", code=1)
        assert "remote other" in result.err and "20" in result.out
        assert len(assert_pools_conformant(site.repository)) == 1


def test_a_pool_that_is_away_is_unreachable(tmp_path: Path) -> None:
    with site_at(tmp_path) as site:
        configure(site)
        site.config.write_text(site.config.read_text().replace(site.pool.url, "https://127.0.0.1:9"))
        assert site.xobackup("run", "meta", code=6).err


def test_listing_and_showing(saved: Site) -> None:
    (nas, other) = saved.xobackup("metadata", "list", "--json").of("pool")
    assert (nas["remote"], other["remote"], nas["points"], nas["uuid"]) == ("nas", "other", 2, pool_uuid(saved))
    assert "simulated pool" in saved.xobackup("metadata", "list").out
    shown = saved.xobackup("metadata", "show", "--json", "--remote", "nas").of("pool-backup")
    assert [point["job"] for point in shown] == ["meta", "meta"] and shown[0]["id"] < shown[1]["id"]
    assert shown[0]["version"] == "8.3.0" and shown[0]["size_bytes"] > 1000
    assert saved.xobackup("metadata", "show", "--of", "simulated pool").out.count("meta") == 4
    assert "no backup of a pool 'paris'" in saved.xobackup("metadata", "show", "--of", "paris", code=2).err


def test_xen_orchestras_own_are_listed_and_left(tmp_path: Path) -> None:
    world = golden.unpack("full-and-pool", tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in world.root.rglob("*"))
    result = xobackup("metadata", "list", "--remote", f"file://{world.root}")
    assert result.code == 0 and "oracle pool" in result.out
    assert "1 backup of Xen Orchestra's configuration" in result.out and "left to Xen Orchestra" in result.out
    assert "nothing to clean" in xobackup("metadata", "clean", "--apply", "--remote", f"file://{world.root}").out
    assert sorted((path, path.stat().st_mtime_ns) for path in world.root.rglob("*")) == before


def test_verifying(own: Site) -> None:
    verdicts = own.xobackup("metadata", "verify", "--json").of("pool-verdict")
    assert [verdict["good"] for verdict in verdicts] == [True, True]
    assert [vm["name"] for vm in verdicts[0]["holds"]["vms"]] == ["web", "db", "scratch"]
    assert "compared with its digest" in own.xobackup("metadata", "verify", "--point", "latest").out
    newest = sorted(own.repository.glob("xo-pool-metadata-backups/*/*/*/data"))[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    result = own.xobackup("metadata", "verify", code=5)
    assert "expected" in result.out and "findings of damage" in result.err
    assert own.xobackup("metadata", "verify", "--of", "paris", code=2).err


def test_deleting_and_cleaning(own: Site) -> None:
    first, second = (record["id"] for record in own.xobackup("metadata", "show", "--json").of("pool-backup"))
    assert "would delete" in own.xobackup("metadata", "delete", first, "--remote", "nas").out
    assert [
        r["point"] for r in own.xobackup("metadata", "delete", first, "-r", "nas", "--yes", "--json").of("deleted")
    ] == [first]
    assert [r["id"] for r in own.xobackup("metadata", "show", "--json").of("pool-backup")] == [second]
    (path,) = own.repository.glob("xo-pool-metadata-backups/*/*/*/metadata.json")
    path.unlink()
    assert "never finished" in own.xobackup("metadata", "list", code=5).err
    assert "left alone" in own.xobackup("metadata", "clean", "--apply").out, "it may be being written"


def test_a_restore_is_a_trial_unless_everything_says_otherwise(saved: Site) -> None:
    command = ("metadata", "restore", "--remote", "nas", "--pool", "sim")
    for arguments in (command, (*command, "--dry-run"), (*command, "latest")):
        result = saved.xobackup(*arguments)
        assert "this was a dry run" in result.out and "the pool would take" in result.err
    (plan,) = saved.xobackup(*command, "--json").of("pool-restore-plan")
    assert plan["refusals"] == [] and plan["dump"]["pool"]["uuid"] == pool_uuid(saved)
    result = saved.xobackup(*command, "--yes", code=2)
    assert f"--pool-uuid {pool_uuid(saved)}" in result.err
    assert "expected the uuid" in saved.xobackup(*command, "--yes", "--pool-uuid", "no", code=2).err
    assert "contradict" in saved.xobackup(*command, "--yes", "--dry-run", code=2).err
    assert "is no backup of a pool" in saved.xobackup(*command, "2020", code=2).err
    assert "there is no backup of pool paris" in saved.xobackup(*command, "--of", "paris", code=2).err


def test_a_real_restore(tmp_path: Path) -> None:
    with site_at(tmp_path) as site:
        configure(site)
        site.xobackup("run", "meta")
        vm = site.pool.vm_named("scratch")
        site.pool.call("VM.set_name_label", vm, "renamed")
        command = ("metadata", "restore", "--remote", "nas", "--pool", "sim", "--yes", "--pool-uuid", pool_uuid(site))
        result = site.xobackup(*command, "--json")
        (restored,) = result.of("pool-restored")[-1:]
        assert restored["answers"] and list(restored["problems"]) == []
        assert site.pool.vm_named("scratch") == vm


def test_a_damaged_backup_is_not_restored(own: Site) -> None:
    newest = sorted(own.repository.glob("xo-pool-metadata-backups/*/*/*/data"))[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    result = own.xobackup("metadata", "restore", "--remote", "nas", "--pool", "sim", code=5)
    assert "metadata verify" in result.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('vms.include = [{ name = "*" }]', "jobs.meta.vms: there is no such key"),
        ('pool = "sim"', "jobs.meta.pool: there is no such key"),
        ('id = "x"', "jobs.meta.id: "),
    ],
)
def test_a_metadata_job_has_keys_of_its_own(own: Site, line: str, told: str) -> None:
    own.configure(*META, line, remotes='["nas", "other"]')
    assert told in own.xobackup("config", "check", code=2).err


@pytest.mark.parametrize(
    ("replace", "told"),
    [
        (('pools = ["sim"]', 'pools = ["rome"]'), "jobs.meta.pools: there is no pool 'rome' (known: sim)"),
        (('pools = ["sim"]', "pools = []"), "jobs.meta.pools: "),
        (('pools = ["sim"]', 'pools = ["sim", "sim"]'), "a pool is named twice"),
        (('remotes = ["nas", "other"]\nretention', 'remotes = ["nsa"]\nretention'), "there is no remote 'nsa'"),
        (("[jobs.meta]", "[metadata_jobs.meta]"), "metadata_jobs: there is no such key"),
        (("retention = 2\n", "retention = 0\n"), "retention: "),
    ],
)
def test_a_bad_metadata_job_is_refused(own: Site, replace: tuple[str, str], told: str) -> None:
    own.configure(*META, remotes='["nas", "other"]')
    text = own.config.read_text()
    assert replace[0] in text
    own.config.write_text(text.replace(*replace))
    assert told in own.xobackup("config", "check", code=2).err


def test_the_configuration_tells_of_both_kinds(saved: Site) -> None:
    jobs = {job["name"]: job for job in saved.xobackup("config", "check", "--json").of("job")}
    assert (jobs["meta"]["mode"], jobs["meta"]["pools"], jobs["nightly"]["mode"]) == ("metadata", ["sim"], "delta")
    assert "1 database of pools to back up" in saved.xobackup("doctor").out
    assert json.dumps(jobs["meta"]["remotes"]) == '["nas", "other"]'
