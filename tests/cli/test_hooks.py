"""Hooks from the configuration file to the report, as an operator meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from xotest.hook_log import HookLog
from xotest.site import Site


def hook(log: HookLog, on: str, does: str = "", **keys: object) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'[[jobs.nightly.hooks]]\non = "{on}"\ncommand = ["/bin/sh", "{log.script}", "{does}"]\n{more}'


@pytest.fixture
def log(tmp_path: Path) -> HookLog:
    return HookLog(tmp_path)


def test_hooks_are_shown_by_the_plan_run_and_reported(site: Site, log: HookLog) -> None:
    site.configure(hook(log, "before-snapshot"), hook(log, "after-vm", "fail", timeout_s=7))
    plan = site.xobackup("plan")
    assert "hook before-snapshot: /bin/sh (at most 60 s; its failure stops)" in plan.out
    assert "hook after-vm: /bin/sh (at most 7 s; its failure is a warning)" in plan.out
    assert log.lines == []
    result = site.xobackup("run", "--vm", "db")
    assert "hook /bin/sh (after-vm) of db ended with exit code 7: it said no" in result.out
    assert log.lines == [["before-snapshot", "db", "", "", ""], ["after-vm", "db", "ok", "", ""]]
    (report,) = site.xobackup("run", "--vm", "db", "--json").of("report")
    assert [one["on"] for one in report["vms"][0]["hooks"]] == ["before-snapshot", "after-vm"]


def test_a_hook_that_says_no_fails_the_run_with_its_words(site: Site, log: HookLog) -> None:
    site.configure(hook(log, "before-run", "fail"))
    result = site.xobackup("run", code=1)
    assert "hook /bin/sh (before-run) ended with exit code 7: it said no" in result.err
    assert not (site.repository / "xo-vm-backups").exists()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('on = "before-lunch"\ncommand = ["true"]', "jobs.nightly.hooks.0.on: "),
        ('on = "after-vm"', "expected either command or url"),
        ('on = "after-vm"\ncommand = ["true"]\nurl = "https://x"', "expected either command or url"),
        ('on = "after-vm"\ncommand = []', "jobs.nightly.hooks.0.command: "),
        ('on = "after-vm"\ncommand = "rm -rf /"', "jobs.nightly.hooks.0.command: "),
        ('on = "after-vm"\ncommand = ["/no/such/program"]', "there is no program '/no/such/program'"),
        ('on = "after-vm"\nurl = "ftp://x/secret"', "expected http://host/"),
        ('on = "after-vm"\nurl = "https://me:secret@x/"', "use headers"),
        ('on = "after-vm"\nurl = "https://x"\nheaders = { "a b" = "c" }', "expected the name of a header"),
        ('on = "after-vm"\nurl = "https://x"\nca = "/no/such/file"', "there is no file /no/such/file"),
        ('on = "on-failure"\ncommand = ["true"]\nif_it_fails = "stop"', "cannot be stopped any more"),
        ('on = "after-vm"\ncommand = ["true"]\ntimeout_s = 0', "jobs.nightly.hooks.0.timeout_s: "),
    ],
)
def test_config_check_names_what_cannot_work(site: Site, lines: str, told: str) -> None:
    site.configure(f"[[jobs.nightly.hooks]]\n{lines}")
    error = site.xobackup("config", "check", code=2).err
    assert told in error and "secret" not in error


def test_secrets_of_hooks_come_from_where_secrets_come_from(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.configure(
        'guest_hook_secret = { env = "XOBACKUP_TEST_ABSENT" }',
        '[[jobs.nightly.hooks]]\non = "after-run"\nurl = { env = "XOBACKUP_TEST_URL" }',
        'headers = { Authorization = { env = "XOBACKUP_TEST_ABSENT" } }',
    )
    site.xobackup("config", "check")
    error = site.xobackup("config", "check", "--secrets", code=2).err
    for key in ("hooks.0.url", "hooks.0.headers.Authorization", "guest_hook_secret"):
        assert f"jobs.nightly.{key}: the environment variable" in error
    monkeypatch.setenv("XOBACKUP_TEST_ABSENT", "s3cret")
    monkeypatch.setenv("XOBACKUP_TEST_URL", "gopher://s3cret")
    error = site.xobackup("run", code=2).err
    assert "jobs.nightly.hooks.0.url: expected http://host/" in error and "s3cret" not in error


def test_a_job_for_databases_has_no_hooks_around_snapshots(site: Site, log: HookLog) -> None:
    lines = '[jobs.pools]\nmode = "metadata"\npools = ["sim"]\nremotes = ["nas"]'
    site.configure(lines, hook(log, "before-run").replace("nightly", "pools"))
    site.xobackup("run", "pools")
    assert log.moments == ["before-run"]
    site.configure(lines, hook(log, "before-snapshot").replace("nightly", "pools"))
    assert "this job backs up no VM" in site.xobackup("config", "check", code=2).err


def test_the_doctor_looks_for_the_programs(site: Site, log: HookLog) -> None:
    site.configure(hook(log, "before-run").replace("/bin/sh", "no-such-program-of-ours"))
    assert "hooks: jobs.nightly.hooks.0.command: there is no program" in site.xobackup("doctor", code=6).out
