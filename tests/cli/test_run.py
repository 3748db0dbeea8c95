"""``run`` and ``plan``: what is told, and the exit code for every way it can end."""

from __future__ import annotations

import json
import socket

import pytest

from xobackup.cli.exits import Exit
from xobackup.cli.run import exit_code
from xobackup.clock import SystemClock
from xobackup.engine.job import RemoteTarget
from xobackup.engine.storage import open_repository
from xotest.site import Site
from xotest.xo_rules import assert_conformant, assert_nothing

FULL = "SR_BACKEND_FAILURE_44"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_first_a_full_then_a_delta_and_plan_says_so_before(site: Site) -> None:
    planned = site.xobackup("plan").out
    assert "2 VMs, about 20.0 MiB to read" in planned and "first backup of this disk" in planned
    assert not list(site.repository.iterdir()), "plan touches nothing"
    first = site.xobackup("run")
    assert "web: 2 disks: 2 fulls" in first.err and "db: 1 disk: 1 full" in first.err
    assert "2 full" in first.out and "ok" in first.out
    site.pool.gc()
    site.write("web", 0, b"x" * 4096)
    assert "continues from snapshot" in site.xobackup("plan").out
    second = site.xobackup("run")
    assert "web: delta of web system: 2.0 MiB" in second.err
    assert "web: delta of web data: nothing changed" in second.err
    assert_nothing(site.repository)
    assert_conformant(site.repository)


def test_json_carries_every_event_and_the_report(site: Site) -> None:
    result = site.xobackup("run", "--json")
    assert not result.err
    kinds = [record["kind"] for record in result.records]
    assert kinds[0] == "run-started" and kinds[-1] == "report"
    assert {"vm-planned", "disk-transferred", "point-published", "vm-ended", "run-ended"} <= set(kinds)
    (report,) = result.of("report")
    assert report["outcome"] == "ok" and {vm["name"] for vm in report["vms"]} == {"web", "db"}
    (plan,) = site.xobackup("plan", "--json").of("plan")
    assert {vm["name"] for vm in plan["vms"]} == {"web", "db"}


def test_only_the_vms_named_are_backed_up(site: Site) -> None:
    (report,) = site.xobackup("run", "--vm", "web", "--json").of("report")
    assert [vm["name"] for vm in report["vms"]] == ["web"]
    (report,) = site.xobackup("run", "--vm", site.uuid("db"), "--json").of("report")
    assert [vm["name"] for vm in report["vms"]] == ["db"]


@pytest.mark.parametrize("name", ["nobody", "scratch", "we*"])
def test_a_vm_the_job_does_not_select_is_refused(site: Site, name: str) -> None:
    error = site.xobackup("run", "--vm", name, code=2).err
    assert f"no VM of these jobs is called {name}" in error and "hint: see `xobackup plan`" in error


def test_a_vm_no_rule_can_match_is_refused_before_anything_is_touched(site: Site) -> None:
    site.configure(replace=('{ tag = "prod" }', '{ name = "web*" }'))
    error = site.xobackup("run", "--vm", "db", code=2).err
    assert "no rule of nightly can match a VM 'db'" in error
    assert not site.state.exists()


def test_full_asks_for_fulls_once(site: Site) -> None:
    site.xobackup("run", "--vm", "db")
    site.pool.gc()
    assert "every 1th" not in site.xobackup("plan", "--vm", "db").out
    (report,) = site.xobackup("run", "--vm", "db", "--full", "--json").of("report")
    assert (report["vms"][0]["fulls"], report["vms"][0]["deltas"]) == (1, 0)
    site.pool.gc()
    (report,) = site.xobackup("run", "--vm", "db", "--json").of("report")
    assert (report["vms"][0]["fulls"], report["vms"][0]["deltas"]) == (0, 1)


def test_two_remotes_get_the_same_point_told_once(site: Site) -> None:
    site.other.mkdir()
    site.configure(remotes='["nas", "other"]')
    result = site.xobackup("run", "--vm", "db")
    (row,) = [line for line in result.out.splitlines() if line.strip().startswith("db")]
    assert "nas" not in row and "other" not in row
    assert "on nas" in result.err and "on other" in result.err


def test_one_vm_that_fails_is_told_by_name_and_the_other_is_done(site: Site) -> None:
    site.pool.faults.fail_call("VM.snapshot*", FULL, ["", "There is insufficient space", ""], times=1)
    result = site.xobackup("run", code=3)
    assert "done in part" in result.out
    failed = next(line for line in result.err.splitlines() if line.startswith("error: job nightly: "))
    assert FULL in failed and ("web" in failed or "db" in failed)
    (report,) = site.xobackup("run", "--json").of("report")
    assert report["outcome"] == "ok"


def test_every_vm_failing_is_a_failure(site: Site) -> None:
    site.pool.faults.fail_call("VM.snapshot*", FULL, ["", "There is insufficient space", ""], times=2)
    site.xobackup("run", code=1)


def test_a_remote_that_is_away_is_told_and_the_other_gets_its_backup(site: Site) -> None:
    site.configure(remotes='["nas", "other"]')
    result = site.xobackup("run", code=3)
    assert f"remote other: file://{site.other}: the directory of the remote does not exist" in result.err
    assert "ok" in result.out and "nas: 2" in result.out
    site.xobackup("plan", code=6)


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_unreachable_pool(site: Site, verb: str, as_json: bool) -> None:
    port = free_port()
    site.configure(replace=(site.pool.url, f"https://127.0.0.1:{port}"))
    result = site.xobackup(verb, *(["--json"] if as_json else []), code=6)
    assert f"pool sim: 127.0.0.1:{port}: cannot connect" in result.err
    assert "hint: check the address, that the host is up" in result.err
    if as_json:
        assert result.of("error")


def test_a_wrong_password_is_told_without_showing_it(site: Site) -> None:
    site.configure(replace=(site.pool.password, "my wrong secret"))
    result = site.xobackup("run", code=6)
    assert "SESSION_AUTHENTICATION_FAILED (user root)" in result.err
    assert "hint: check the pool's username and password" in result.err
    assert "my wrong secret" not in result.out + result.err


def test_a_wrong_fingerprint_shows_the_one_found(site: Site) -> None:
    wrong = "ab" * 32
    site.configure(replace=(site.pool.fingerprint_sha256, wrong))
    error = site.xobackup("plan", code=6).err
    assert "not the pinned one" in error and "hint: " in error and "pin this fingerprint" in error
    assert site.pool.fingerprint_sha256 in error.replace(":", "").lower()


def test_a_run_at_a_vm_that_another_holds(site: Site) -> None:
    site.configure("lock_wait_s = 0")
    repository = open_repository(RemoteTarget(name="nas", url=f"file://{site.repository}"), clock=SystemClock())
    with repository.lock(site.uuid("db"), purpose="a test"):
        result = site.xobackup("run", "--vm", "db", code=4)
    assert "the lock is held" in result.err and "a test" in result.err
    site.xobackup("run", "--vm", "db")


def test_the_journal_tells_what_the_json_told(site: Site) -> None:
    result = site.xobackup("run", "--vm", "db", "--json")
    (path,) = (site.state / "journal").glob("*.jsonl")
    written = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert written == [record["kind"] for record in result.records if record["kind"] not in ("report", "progress")]


def test_an_unknown_job_is_a_usage_error(site: Site) -> None:
    assert "there is no job 'weekly' (known: nightly)" in site.xobackup("run", "weekly", code=2).err
    site.config.write_text("")
    assert "defines no job" in site.xobackup("run", code=2).err


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], Exit.OK),
        ([Exit.OK, Exit.OK], Exit.OK),
        ([Exit.FAILED], Exit.FAILED),
        ([Exit.FAILED, Exit.OK], Exit.SOME_FAILED),
        ([Exit.FAILED, Exit.LOCKED], Exit.SOME_FAILED),
        ([Exit.UNREACHABLE, Exit.UNREACHABLE], Exit.UNREACHABLE),
        ([Exit.FAILED, Exit.INTERRUPTED], Exit.INTERRUPTED),
        ([Exit.OK, Exit.TERMINATED], Exit.TERMINATED),
    ],
)
def test_several_jobs_end_with_one_code(codes: list[Exit], expected: Exit) -> None:
    assert exit_code(codes) is expected
