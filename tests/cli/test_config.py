"""``config check``: every problem by file and key, secrets only when asked, and never shown."""

from __future__ import annotations

from xotest.site import PASSWORD, Site


def test_a_good_configuration_is_summed_up(shared: Site) -> None:
    told = shared.xobackup("config", "check").out
    assert f"{shared.config}: good" in told and "jobs: nightly" in told
    records = shared.xobackup("config", "check", "--json").records
    assert [record["kind"] for record in records] == ["job", "configuration"]
    assert records[0]["retention"] == 2 and records[1]["remotes"] == ["nas"]


def test_every_problem_is_one_line_with_file_and_key(site: Site) -> None:
    site.configure("retnetion = 3", "vms_max = 0")
    lines = site.xobackup("config", "check", code=2).err.splitlines()
    assert f"error: {site.config}: jobs.nightly.retnetion: there is no such key" in lines
    assert any(line.startswith(f"error: {site.config}: jobs.nightly.vms_max: ") for line in lines)


def test_a_remote_nobody_can_open_is_told(site: Site) -> None:
    site.configure(replace=(f"file://{site.repository}", "ftp://x/y"))
    assert "error: remotes.nas.url: " in site.xobackup("config", "check", code=2).err


def test_secrets_are_read_when_asked(site: Site) -> None:
    site.configure(replace=(f'"{PASSWORD}"', '{ env = "XOBACKUP_TEST_ABSENT" }'))
    site.xobackup("config", "check")
    error = site.xobackup("config", "check", "--secrets", code=2).err
    assert "pools.sim.password: the environment variable XOBACKUP_TEST_ABSENT is not set" in error


def test_no_configuration_says_how_to_name_one(tmp_path, shared: Site) -> None:
    from xotest.site import xobackup

    result = xobackup("config", "check", "-c", tmp_path / "absent.toml")
    assert (
        result.code == 2
        and "No such file" in result.err
        and "hint: write one, or name it with --config" in result.err
    )
