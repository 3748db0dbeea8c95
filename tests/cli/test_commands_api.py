"""Commands ordered by the API of a service that runs: what they do, what is refused, and what dies with whom."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xobackup.engine import keys
from xobackup.simpool import SimPool
from xotest.served import Served, served
from xotest.site import Site, wait_until
from xotest.two_pools import TARGET_POOL
from xotest.xo_rules import assert_nothing

MORE = """
[pools.second]
url = "{url}"
password = "{password}"
tls = {{ fingerprint = "{fingerprint}" }}
[remotes.copy]
url = "file://{copy}"
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
exchange = "{exchange}"
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "second", spec=TARGET_POOL) as pool:
        yield pool


@pytest.fixture
def service(site: Site, other: SimPool, tmp_path: Path) -> Iterator[Served]:
    """After two runs, with a directory of exchange."""
    site.configure('replicate_to = ["dr"]')
    (tmp_path / "copy").mkdir()
    (tmp_path / "exchange").mkdir(mode=0o750)
    more = MORE.format(
        url=other.url, password=other.password, fingerprint=other.fingerprint_sha256, copy=tmp_path / "copy",
        exchange=tmp_path / "exchange",
    )  # fmt: skip
    site.config.write_text(site.config.read_text() + more)
    site.xobackup("run")
    site.write("web", 0, b"second" * 100)
    site.xobackup("run")
    with served(site, tmp_path / "log") as found:
        yield found


def kinds(done: Any) -> list[str]:
    return [one["kind"] for one in done["result"]["records"]]


def test_whatever_the_command_line_does(service: Served, site: Site, other: SimPool, tmp_path: Path) -> None:
    api = service.api("admin")
    listed = api("GET", "/commands")
    assert {"dr failover", "clean", "remote key rotate"} <= {one["name"] for one in listed["commands"]}

    looked = api.done("/commands/doctor")
    assert looked["result"]["exit_code"] == 0 and looked["result"]["records"], looked
    shown = api.done("/commands/retention/show", {"job": "nightly", "remote": "nas", "vm": "web"})
    assert len(shown["result"]["records"]) >= 2 and shown["lane"] == "look"

    # mirror
    api.done("/commands/mirror", {"source": "nas", "target": "copy", "vm": ["web"], "verify": True})
    assert len(site.xobackup("backups", "show", "web", "-r", "copy", "--json").of("restore-point")) == 2

    # clean: said first, then done
    web = site.uuid("web")
    stray = site.repository / "xo-vm-backups" / web / ".20200101T000000Z.json.part"
    stray.write_bytes(b"half")
    os.utime(stray, (0, 0))
    said = api.done("/commands/clean", {"remote": "nas"})
    assert stray.exists() and ".20200101T000000Z.json.part" in json.dumps(said["result"]), said
    api.done("/commands/clean", {"remote": "nas", "apply": True})
    assert not stray.exists()

    # backups delete: yes or nothing
    points = [one["id"] for one in site.xobackup("backups", "show", "web", "-r", "nas", "--json").of("restore-point")]
    order = {"vm": web, "points": [points[0]], "remote": "nas"}
    api.done("/commands/backups/delete", order)
    assert len(site.xobackup("backups", "show", "web", "-r", "nas", "--json").of("restore-point")) == 2
    api.done("/commands/backups/delete", {**order, "yes": True})
    left = [one["id"] for one in site.xobackup("backups", "show", "web", "-r", "nas", "--json").of("restore-point")]
    assert left == [one for one in points if one != points[0]]

    # restore disk: into a VDI, and into the directory of exchange
    sr = next(ref for ref, one in other.model.records("SR").items() if one["name_label"] == "dr hdd")
    vdi = other.call(
        "VDI.create", {"name_label": "mine", "name_description": "", "SR": sr, "virtual_size": 6 << 20,
        "type": "user", "sharable": False, "read_only": False, "other_config": {}, "xenstore_data": {},
        "sm_config": {}, "tags": []}
    )  # fmt: skip
    disk = {"vm": "db", "remote": "nas", "disk": "0"}
    api.done("/commands/restore/disk", {**disk, "vdi": other.model.get("VDI", vdi)["uuid"], "pool": "second"})
    assert other.disk_sha256(vdi) == site.disk_sha256("db", 0)
    api.done("/commands/restore/disk", {**disk, "output": "db.raw"})
    assert (tmp_path / "exchange" / "db.raw").stat().st_size == 6 << 20
    again = api.done("/commands/restore/disk", {**disk, "output": "db.raw"}, state="failed")
    assert "there already" in again["problem"] or "exists" in again["problem"], again
    assert again["result"]["exit_code"] == 2

    # a failover: said first, then done
    before = set(other.model.records("VM"))
    planned = api.done("/commands/dr/failover", {"name": "lyon", "force": True})
    assert set(other.model.records("VM")) == before and "dr-plan" in kinds(planned) and planned["lane"] == "look"
    failed_over = api.done("/commands/dr/failover", {"name": "lyon", "force": True, "yes": True})
    assert failed_over["lane"] == "work" and kinds(failed_over).count("dr-failover") == 2
    assert len(set(other.model.records("VM")) - before) == 2
    assert failed_over["said"], "what goes on is told"

    # a run leaves its journal in the history at once, and its events are what it says
    api.done("/commands/run", {"jobs": ["nightly"], "vm": ["db"]})
    assert len(api("GET", "/runs")["runs"]) == 3

    audit = [json.loads(line) for line in (site.state / "audit.jsonl").read_text().splitlines()]
    deeds = [(one["deed"], one["about"]) for one in audit]
    line = "xobackup dr failover --yes --force -- lyon"
    assert ("command", line) in deeds and ("command done", f"{line} ({failed_over['id']})") in deeds
    assert failed_over["about"] == line


def test_a_name_that_is_none_fails_as_the_command_does(service: Served) -> None:
    api = service.api("operator")
    for value in ("--help", "$(id) é ☃ '; true", "-" + "x" * 499):
        failed = api.done("/commands/history/vm", {"name": value}, state="failed")
        assert failed["result"]["exit_code"] == 2 and value in failed["problem"], failed
    nothing = api.done("/commands/history/list", {"outcome": "--yes", "job": "-n"})
    assert nothing["result"]["exit_code"] == 0 and nothing["result"]["records"] == [], nothing
    wrong = api.done("/commands/verify", {"remote": "nas", "slice": "-1%"}, state="failed")
    assert "-1%" in wrong["problem"] and "Usage" not in wrong["problem"], wrong


def test_a_file_that_is_not_followed_is_told_and_read_anew(service: Served, site: Site) -> None:
    good, api = site.config.read_text(), service.api("operator")
    site.config.write_text(good + "[web]\n")
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: any("not followed" in one for one in api("GET", "/status")["problems"]))
    failed = api.done("/commands/status", state="failed")
    assert failed["result"]["exit_code"] == 2 and "toml" in failed["problem"], failed
    assert any("reads the file as it is now" in one for one in failed["said"])
    site.config.write_text(good)
    assert api.done("/commands/status")["said"], "the service does not follow it yet"


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("history/vm", {"name": "a\nb"}, 422, "name"),
    ("history/vm", {"name": "a\n"}, 422, "name"),
    ("history/vm", {"name": "a\0b"}, 422, "name"),
    ("history/vm", {"name": "x" * 4096}, 422, "name"),
    ("history/vm", {"name": "\ud800"}, 422, "name"),
    ("history/vm", {}, 422, "name"),
    ("history/vm", {"name": "web", "number": 1e999}, 422, "number"),
    ("history/vm", {"name": "web", "number": "7"}, 422, "number"),
    ("history/vm", {"name": "web", "config": "/etc/passwd"}, 422, "config"),
    ("run", {"vm": ["web"] * 300}, 422, "vm"),
    ("health-check", {"command": ["/bin/sh"]}, 422, "command"),
    ("remote/key/add", {"remote": "nas", "recovery": True}, 422, "recovery"),
    ("import-from-xo", {"export": "xo.json", "secrets": "inline"}, 422, "secrets"),
    ("backups/list", {"remote": "file:///etc"}, 404, "no remote"),
    ("mirror", {"source": "nas", "target": "/tmp/elsewhere"}, 404, "no remote"),
    ("seed/export", {"from": "nas", "to": "file:///tmp"}, 404, "no remote"),
    ("restore/disk", {"vm": "web", "remote": "nas", "disk": "0", "output": "-"}, 422, "output"),
    ("restore/disk", {"vm": "web", "remote": "nas", "disk": "0", "output": "../x"}, 422, "output"),
    ("restore/disk", {"vm": "web", "remote": "nas", "disk": "0", "output": "/etc/x"}, 422, "output"),
    ("restore/disk", {"vm": "web", "remote": "nas", "disk": "0", "output": ".hidden"}, 422, "output"),
    ("restore/disk", {"vm": "web", "remote": "nas", "disk": "0", "output": "link"}, 422, "a link or something else"),
    ("import-from-xo", {"export": "link"}, 422, "a link or something else"),
    ("import-from-xo", {"export": "nothing"}, 422, "there is no file"),
    ("serve", {}, 405, ""),
    ("web/password", {}, 405, ""),
]


def test_what_is_refused_at_once(service: Served, tmp_path: Path) -> None:
    api = service.api("admin")
    (tmp_path / "exchange" / "link").symlink_to("/etc/passwd")
    for path, body, code, told in BAD:
        refused = api("POST", f"/commands/{path}", body)
        assert refused["status"] in (code, 404 if code == 405 else code) and told in refused["detail"], refused
    assert api("GET", "/operations")["operations"] == []
    (tmp_path / "exchange").chmod(0o777)
    refused = api("POST", "/commands/support-bundle", {"output": "bundle.tar.gz"})
    assert refused["status"] == 422 and "others may change it" in refused["detail"]
    (tmp_path / "exchange").chmod(0o750)


def test_a_file_that_a_command_wrote_is_had_by_an_admin(service: Served, tmp_path: Path) -> None:
    api, exchange = service.api("admin"), tmp_path / "exchange"
    (exchange / "key").write_text("secret")
    made = api.done("/commands/support-bundle", {"output": "bundle.tar.gz", "offline": True})
    path = f"/operations/{made['id']}/files/bundle.tar.gz"
    whole = (exchange / "bundle.tar.gz").read_bytes()
    assert len(whole) > 1000 and api.read(path) == whole
    assert service.api("operator")("GET", path)["status"] == 403
    for other in ("key", "..%2Fxobackup.toml", "%2e%2e", "bundle.tar.gz%00", "none"):
        assert api("GET", f"/operations/{made['id']}/files/{other}")["status"] == 404, other
    (exchange / "bundle.tar.gz").unlink()
    assert api("GET", path)["status"] == 404
    (exchange / "bundle.tar.gz").symlink_to(exchange / "key")
    assert api("GET", path)["status"] == 404
    audit = (service.site.state / "audit.jsonl").read_text()
    assert '"download"' in audit and f"bundle.tar.gz of operation {made['id']}" in audit
    assert api("GET", "/operations/none/files/key")["status"] == 404


def children(service: Served) -> list[int]:
    path = Path(f"/proc/{service.process.pid}/task")
    return [int(one) for task in path.iterdir() for one in (task / "children").read_text().split()]


def slow_run(service: Served) -> Any:
    """A run that has begun to read a disk, and will for some time: the command reads the file as it is then."""
    config = service.site.config
    config.write_text(config.read_text().replace("retries = 0", "retries = 0\nrate_limit_mib_s = 0.25"))
    api = service.api("operator")
    made = api("POST", "/commands/run", {"jobs": ["nightly"], "vm": ["db"], "full": True})
    wait_until(lambda: any("db: 1 disk: 1 full" in one for one in api("GET", f"/operations/{made['id']}")["said"]))
    assert claimed(service.site)
    return made


def claimed(site: Site) -> list[str]:
    """VMs on which somebody says that a run works on them."""
    return [
        str(vm["name_label"])
        for vm in site.pool.model.records("VM").values()
        if not vm["is_a_snapshot"] and any(key.startswith(keys.CLAIM) for key in vm["other_config"])
    ]


def test_cancelled_it_cleans_up(service: Served, site: Site) -> None:
    made = slow_run(service)
    api = service.api("operator")
    api("POST", f"/operations/{made['id']}/cancel", {"reason": "not now"})
    done = api.ended(made["id"])
    assert done["state"] == "cancelled" and "not now" in done["problem"], done
    assert done["result"]["exit_code"] == 143 and children(service) == [] and claimed(site) == []


def test_it_cleans_up_when_the_service_stops(service: Served, site: Site) -> None:
    made = slow_run(service)
    service.process.terminate()
    assert service.process.wait(60) == 0
    kept = json.loads((site.state / "operations" / f"{made['id']}.json").read_text())
    assert kept["state"] == "cancelled" and kept["result"]["exit_code"] == 143, kept
    assert claimed(site) == []
    assert_nothing(site.repository)


def test_it_dies_with_the_service_and_the_next_start_says_so(service: Served, site: Site, tmp_path: Path) -> None:
    made = slow_run(service)
    (child,) = children(service)
    service.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    assert claimed(site) == ["db"]
    for lock in site.repository.glob("xo-vm-backups/*.lock"):
        os.utime(lock, (0, 0))
    with served(site, tmp_path / "log-2") as again:
        found = again.api("viewer")("GET", f"/operations/{made['id']}")
        assert found["state"] == "interrupted" and found["kind"] == "command", found
        config = site.config
        config.write_text(config.read_text().replace("rate_limit_mib_s = 0.25", ""))
        again.api("operator").done("/commands/run", {"jobs": ["nightly"]})
        assert claimed(site) == [], "what the dead one left was cleaned up"
