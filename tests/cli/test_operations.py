"""What people order of a real service, with two pools and a real repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.cli.scheduled import jobs_again
from xobackup.cli.serving.looks import AT_ONCE, BUSY, Looks
from xobackup.clock import FakeClock
from xobackup.config.load import load_configuration
from xobackup.engine.job import Job
from xobackup.engine.journal import schedule_of
from xobackup.simpool import SimPool
from xotest.served import Api, served
from xotest.site import Site, wait_until
from xotest.two_pools import TARGET_POOL

FULL = "SR_BACKEND_FAILURE_44"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "other", spec=TARGET_POOL) as pool:
        yield pool


@pytest.fixture
def api(site: Site, other: SimPool, tmp_path: Path) -> Iterator[Api]:
    """A service after a run in which the snapshot of one VM failed."""
    site.configure('replicate_to = ["dr"]')
    more = f"""
[pools.second]
url = "{other.url}"
password = "{other.password}"
tls = {{ fingerprint = "{other.fingerprint_sha256}" }}
[targets.dr]
pool = "second"
sr = "dr ssd"
[dr.lyon]
target = "dr"
groups = [{{ name = "all", vms = ["web", "db"], ready = {{ tools = false }} }}]
[schedules.yearly]
jobs = ["nightly"]
cron = "0 3 1 1 *"
[web]
listen = "127.0.0.1:0"
"""
    site.config.write_text(site.config.read_text() + more)
    site.pool.faults.fail_call("VM.snapshot*", FULL, ["", "There is insufficient space", ""], times=1)
    site.xobackup("run", code=3)
    with served(site, tmp_path / "log") as found:
        yield found.api("operator")


def test_everything_that_can_be_ordered(api: Api, site: Site, other: SimPool) -> None:
    (failed,) = [one for one in api("GET", "/runs")["runs"] if one["failed"]]
    again = api.done(f"/runs/{failed['run_id']}/retry")
    (run,) = again["result"]["runs"]
    assert (run["outcome"], run["vms"]) == ("ok", 1) and again["said"]
    runs = {one["run_id"]: one for one in api("GET", "/runs")["runs"]}
    assert runs[run["run_id"]]["ok"] == 1 and runs[run["run_id"]]["job"] == "nightly", "it is in the history at once"

    web = site.uuid("web")
    nas = api("GET", f"/backups/{web}")["remotes"][0]
    (point,) = nas["points"]
    assert nas["name"] == "web" and [one["name"] for one in point["disks"]] == ["web system", "web data"]
    api.done(f"/backups/{web}/points/{point['id']}/pin", {"remote": "nas", "note": "audit", "until": "2099-01-01"})
    assert site.xobackup("backups", "show", "web", "-r", "nas", "--json").of("pin")[0]["note"] == "audit"
    (point,) = api("GET", f"/backups/{web}")["remotes"][0]["points"]
    assert point["pinned"] and point["pin_note"] == "audit", "what is kept was forgotten when it changed"
    api.done(f"/backups/{web}/points/{point['id']}/unpin", {"remote": "nas"})
    assert site.xobackup("backups", "show", "web", "-r", "nas", "--json").of("pin") == []

    verified = api.done("/verify", {"remote": "nas", "vm": web, "latest": True})["result"]
    assert verified["coverage"]["compared"] == verified["coverage"]["blocks"] > 0
    planned = api.done("/jobs/nightly/plan")["result"]["plans"][0]
    assert {route["mode"] for vm in planned["vms"] for disk in vm["disks"] for route in disk["routes"]} == {"delta"}

    order = {"remote": "nas", "vm": web, "pool": "second", "name": "web again", "sr": "dr hdd"}
    plan = api.done("/restore-plans", order)
    assert [(disk["sr"], disk["base"]) for disk in plan["result"]["disks"]] == [("dr hdd", None)] * 2
    assert plan["result"]["space"][0]["free_bytes"] > plan["result"]["space"][0]["needed_bytes"] > 0
    restored = api.done("/restores", {"plan": plan["id"]})["result"]
    new = other.call("VM.get_by_uuid", restored["vm"])
    assert [other.disk_sha256(ref) for ref in other.vdis_of(new)] == [site.disk_sha256("web", n) for n in (0, 1)]
    assert api("POST", "/restores", {"plan": plan["id"]})["status"] == 409

    before = set(other.model.records("VM"))
    plan = api.done("/restore-plans", order)
    sr = next(ref for ref, one in other.model.records("SR").items() if one["name_label"] == "dr hdd")
    order_uuid = {**order, "sr": other.model.get("SR", sr)["uuid"]}
    plan = api.done("/restore-plans", order_uuid)
    other.call("SR.set_name_label", sr, "moved")
    refused = api.done("/restores", {"plan": plan["id"]}, state="failed")
    assert "sr dr hdd was shown, moved is so now" in refused["problem"] and set(other.model.records("VM")) == before

    looked = api.done("/dr/lyon/plan")["result"]
    assert looked["ok"] and {vm["name"] for vm in looked["vms"]} == {"web", "db"}, looked
    tested = api.done("/dr/lyon/test")["result"]
    assert tested["ok"] and tested["failed"] == 0 and set(other.model.records("VM")) == before
    assert api("GET", "/dr")["plans"][0]["tests"][0]["ok"]

    wait_until(lambda: any(one["vms"] for one in api("GET", "/backups")["remotes"]))
    (listed,) = api("GET", "/backups")["remotes"]
    assert {one["uuid"] for one in listed["vms"]} == {web, site.uuid("db")} and listed["whole"]
    wait_until(lambda: api("GET", "/replicas")["targets"][0]["looked"]["at"] is not None)
    wait_until(lambda: api("GET", "/remotes")["remotes"][0]["depth"] is not None)

    audit = [json.loads(line) for line in (site.state / "audit.jsonl").read_text().splitlines()]
    deeds = [one["deed"] for one in audit]
    assert deeds.index("restore") < deeds.index("restore done") and "restore failed" in deeds
    assert {one["who"] for one in audit} == {"token ci"}
    assert len(list((site.state / "operations").glob("*.json"))) == len(api("GET", "/operations")["operations"])


def test_a_place_that_hangs_costs_a_bounded_time_and_two_threads() -> None:
    import threading

    looks, gate = Looks(FakeClock(), wait_s=0.01), threading.Event()
    hang = [looks.ask("nas", str(number), gate.wait) for number in range(AT_ONCE + 2)]
    assert all(one.looked.pending for one in hang) and hang[-1].looked.problem == BUSY
    several = looks.ask_all([("one", "a", gate.wait), ("two", "a", gate.wait)])
    assert [one.looked.pending for one in several] == [True, True], "both were begun"
    gate.set()
    wait_until(lambda: looks.ask("nas", "0", gate.wait).value is True)
    kept = looks.ask("nas", "0", lambda: False)
    assert kept.value is True and kept.looked.at is not None, "young enough"

    def gone() -> None:
        raise OSError("it is gone")

    def failed() -> bool:
        found = looks.ask("nas", "0", gone, again=True)
        return found.looked.problem == "it is gone" and found.value is True

    wait_until(failed)


def test_what_failed_is_backed_up_again_as_its_schedule_does(site: Site, tmp_path: Path) -> None:
    schedule = '[schedules.yearly]\njobs = ["nightly"]\ncron = "0 3 1 1 *"\nretention = 9\nfull = true\n'
    site.config.write_text(site.config.read_text() + schedule + '[web]\nlisten = "127.0.0.1:0"\n')
    site.xobackup("run")
    with served(site, tmp_path / "log") as found:
        api = found.api("operator")
        site.pool.faults.fail_call("VM.snapshot*", FULL, ["", "There is insufficient space", ""], times=1)
        api("POST", "/schedules/yearly/run")
        wait_until(lambda: any(one["failed"] for one in api("GET", "/runs")["runs"]))
        wait_until(lambda: api("GET", "/schedules")["schedules"][0]["state"] == "")
        (failed,) = [one for one in api("GET", "/runs")["runs"] if one["failed"]]
        again = api.done(f"/runs/{failed['run_id']}/retry")
        assert again["asked"]["schedule"] == "yearly" and "of schedule yearly" in again["about"]
        (run,) = again["result"]["runs"]
        subjects = api("GET", f"/runs/{run['run_id']}")["subjects"]
        disks = [disk["mode"] for one in subjects for disk in one["disks"]]
        assert disks and set(disks) == {"full"}, "as the schedule reads them"
    ids = {
        json.loads(path.read_text())["scheduleId"]
        for path in site.repository.glob("xo-vm-backups/*/*.json")
    }  # fmt: skip
    assert len(ids) == 2, "that of the schedule, whose retention is its own, and that of runs by hand"
    path = next(one for one in (site.state / "journal").glob("*.jsonl") if run["run_id"] in one.name)
    assert schedule_of(path.parent, run["run_id"]) == "yearly" and schedule_of(path.parent, "none") == ""
    configuration = load_configuration(site.config)
    (job,), by = jobs_again(configuration, "nightly", "gone", [site.uuid("web")])
    assert by == "" and isinstance(job, Job) and job.settings.retention == 2
