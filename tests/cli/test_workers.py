"""Workers as processes of their own, and runs that give them their VMs."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from xotest.site import TIMEOUT_S, Site, start, wait_until

PLACES = """
[engine]
database = "sqlite:///{directory}/engine.db"
"""


def engine(site: Site, text: str) -> None:
    site.configure()
    named = site.config.read_text().replace("[pools.sim]", '[pools.sim]\nsites = ["paris"]')
    site.config.write_text(named.replace("[remotes.nas]", '[remotes.nas]\nsites = ["paris", "lyon"]') + text)


def journal(site: Site) -> list[dict[str, object]]:
    newest = sorted((site.state / "journal").glob("*.jsonl"))[-1]
    return [json.loads(line) for line in newest.read_text().splitlines()]


def alive(site: Site) -> list[dict[str, object]]:
    return [one for one in site.xobackup("workers", "--json").of("worker") if one["alive"]]


def test_a_run_gives_its_vms_to_the_worker_nearest_to_them_and_tells_one_story(site: Site, tmp_path: Path) -> None:
    engine(site, PLACES.format(directory=tmp_path))
    assert "no worker was heard of" in site.xobackup("workers").out
    told = site.xobackup("plan", "--json").of("plan")[0]["limits"]
    assert any("no worker of site paris lives" in line for line in told), told
    paris, lyon = site.start("worker", "--site", "paris"), site.start("worker", "--site", "lyon")
    wait_until(lambda: len(alive(site)) == 2)
    assert {one["worker"]["site"]: one["worker"]["reach"]["pools"] for one in alive(site)} == {
        "paris": ["sim"],
        "lyon": [],
    }
    told = site.xobackup("plan").out
    assert "site paris is nearest to sim, nas" in " ".join(told.split()), told
    report = site.xobackup("run", "--json").of("report")[0]
    assert report["outcome"] == "ok" and len(report["vms"]) == 2
    assert all(vm["fulls"] and vm["points"]["nas"] for vm in report["vms"])
    kinds = [record["kind"] for record in journal(site)]
    assert kinds.count("taken-by-worker") == 2 and kinds.count("vm-planned") == 2 and kinds.count("vm-ended") == 2
    assert {record["site"] for record in journal(site) if record["kind"] == "taken-by-worker"} == {"paris"}
    assert "taken-by-worker" not in site.xobackup("history", "list").err
    site.xobackup("verify", "--remote", "nas")
    shown = site.xobackup("workers").out
    assert "paris" in shown and "0/4" in shown
    for process in (paris, lyon):
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0 and "drained" in out + err, out + err
    assert alive(site) == []


def test_a_database_that_is_away_costs_no_backup_that_is_made_here(site: Site, tmp_path: Path) -> None:
    site.configure()
    away = f'[engine]\ndatabase = "postgresql://nobody@/nothing?host={tmp_path}/nowhere"\npassword = "hush"\n'
    site.config.write_text(site.config.read_text() + away)
    refused = site.xobackup("workers", code=6)
    assert "engine database postgresql" in refused.err and "hush" not in refused.err
    assert "workers: engine database" in site.xobackup("plan").out
    done = site.xobackup("run", "--json")
    assert done.of("report")[0]["outcome"] == "ok"
    assert "limits hold in this process alone: engine database" in site.xobackup("run").err
    told = [record["message"] for record in journal(site) if record["kind"] == "warning"]
    assert len(told) == 1 and told[0].startswith("no VM can be given to workers: engine database"), told
    assert "hush" not in json.dumps(journal(site))


def test_a_worker_that_lies_about_its_site_fails_in_its_own_words_and_costs_nothing_else(
    site: Site, tmp_path: Path
) -> None:
    engine(site, PLACES.format(directory=tmp_path))
    liar = tmp_path / "liar.toml"
    liar.write_text(site.config.read_text().replace(site.pool.url, "https://127.0.0.1:9"))
    lying = start("worker", "--site", "paris", "--config", liar)
    wait_until(lambda: len(alive(site)) == 1)
    report = site.xobackup("run", "--json", code=1).of("report")[0]
    reasons = {vm["reason"] for vm in report["vms"]}
    assert len(report["vms"]) == 2 and all("worker on" in one and "127.0.0.1:9" in one for one in reasons), reasons
    assert not list(site.repository.glob("xo-vm-backups/*/*.json"))
    honest = site.start("worker", "--site", "paris")
    wait_until(lambda: len(alive(site)) == 2)
    lying.send_signal(signal.SIGTERM)
    lying.communicate(timeout=TIMEOUT_S)
    assert site.xobackup("run", "--json").of("report")[0]["outcome"] == "ok"
    honest.send_signal(signal.SIGTERM)
    honest.communicate(timeout=TIMEOUT_S)


def test_vms_that_wait_for_a_worker_are_on_the_board_until_one_comes(site: Site, tmp_path: Path) -> None:
    engine(site, PLACES.format(directory=tmp_path) + 'site = "rome"\n')
    site.xobackup("workers")
    run = site.start("run", "--json")
    wait_until(lambda: asked(tmp_path, "SELECT count(*) FROM xobackup_unplaced") == 2)
    assert asked(tmp_path, "SELECT count(*) FROM xobackup_unplaced WHERE site = 'paris' AND job = 'nightly'") == 2
    worker = site.start("worker", "--site", "paris")
    out, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 0, out + err
    assert asked(tmp_path, "SELECT count(*) FROM xobackup_unplaced") == 0
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=TIMEOUT_S)


def test_what_the_control_node_does_itself_takes_places_and_rates_that_all_share(site: Site, tmp_path: Path) -> None:
    slow = "[limits]\nrate_limit_mib_s = 2\ntransfers_per_pool = 3\n"
    site.configure("rate_limit_mib_s = 100", replace=("[jobs.nightly]", f"{slow}[jobs.nightly]"))
    site.config.write_text(site.config.read_text() + PLACES.format(directory=tmp_path))
    site.xobackup("workers")
    run = site.start("run", "--json")
    held = "SELECT count(*) FROM xobackup_member_slots JOIN xobackup_members ON member = xobackup_members.id"
    wait_until(lambda: asked(tmp_path, held) > 0)
    shared = "SELECT count(DISTINCT name) FROM xobackup_shares JOIN xobackup_members ON instr(holder, id || '/') = 1"
    wait_until(lambda: asked(tmp_path, shared) == 2)  # of all jobs, of this one
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=TIMEOUT_S)
    for table in ("members", "member_slots", "shares"):
        assert asked(tmp_path, f"SELECT count(*) FROM xobackup_{table}") == 0, table


def asked(directory: Path, query: str) -> int:
    with closing(sqlite3.connect(directory / "engine.db", timeout=30)) as connection:
        return int(connection.execute(query).fetchone()[0])


def test_a_consistent_group_is_done_by_one_worker_as_a_whole(site: Site, tmp_path: Path) -> None:
    engine(site, PLACES.format(directory=tmp_path))
    text = site.config.read_text()
    site.config.write_text(text.replace("[jobs.nightly]", '[jobs.nightly]\nconsistent = { tag = "prod" }'))
    worker = site.start("worker", "--site", "paris", "--slots", "1")
    wait_until(lambda: len(alive(site)) == 1)
    told = " ".join(site.xobackup("plan").out.split())
    assert "workers: the consistent group of sim: site paris is nearest to sim, nas" in told
    report = site.xobackup("run", "--json").of("report")[0]
    group, vms = report["group"], {site.uuid("web"), site.uuid("db")}
    assert report["outcome"] == "ok" and set(group["vms"]) == vms
    assert {vm["group"] for vm in report["vms"]} == {group["id"]} and all(vm["points"]["nas"] for vm in report["vms"])
    records = journal(site)
    assert {one["vm"] for one in records if one["kind"] == "taken-by-worker"} == vms
    assert [one["group"] for one in records if one["kind"] == "group-taken"] == [group["id"]]
    assert sum(one["kind"] == "vm-ended" for one in records) == 2
    assert asked(tmp_path, "SELECT count(*) FROM xobackup_tasks") == 0
    site.xobackup("verify", "--remote", "nas")
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=TIMEOUT_S)


def test_health_checks_and_pools_databases_go_to_a_worker_where_only_it_reaches_them(
    site: Site, tmp_path: Path
) -> None:
    engine(site, PLACES.format(directory=tmp_path) + 'site = "rome"\n')
    text = site.config.read_text()
    site.pool.call("VM.add_tags", site.pool.vm_named("scratch"), "xo:no-bak")
    more = 'pool_metadata = true\nhealth_check = { sr = "Local storage", vms_max = 1, tools = true }'
    site.config.write_text(text.replace("[jobs.nightly]", f"[jobs.nightly]\n{more}"))
    worker = site.start("worker", "--site", "paris")
    wait_until(lambda: len(alive(site)) == 1)
    told = " ".join(site.xobackup("plan").out.split())
    assert "workers: the database of sim: site paris" in told and "workers: health checks: site paris" in told
    report = site.xobackup("run", "--json").of("report")[0]
    assert report["outcome"] == "ok", report
    (pool,) = report["pools"]
    assert pool["outcome"] == "ok" and pool["points"]["nas"] and pool["size_bytes"]
    (check,) = report["checks"]
    assert check["ok"] and check["removed"] and check["remote"] == "nas"
    kinds = [record["kind"] for record in journal(site)]
    assert kinds.count("health-checked") == 1 and kinds.count("pool-ended") == 1
    assert kinds.count("taken-by-worker") == 4
    assert "vm-skipped" not in kinds, "the database's task looks at no VM"
    second = site.xobackup("run", "--json").of("report")[0]["checks"]
    assert [one["vm_uuid"] for one in second] != [check["vm_uuid"]], "the control node remembers who was checked"
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=TIMEOUT_S)


def test_a_database_that_nobody_can_save_is_a_failure_that_is_told(site: Site, tmp_path: Path) -> None:
    engine(site, PLACES.format(directory=tmp_path) + 'site = "rome"\nwait = "1s"\n')
    job = '[jobs.databases]\nmode = "metadata"\npools = ["sim"]\nremotes = ["nas"]\n'
    site.config.write_text(site.config.read_text() + job)
    report = site.xobackup("run", "databases", "--json", code=1).of("report")[0]
    (pool,) = report["pools"]
    assert pool["outcome"] == "failed" and "no worker came within 1 s" in pool["reason"]
    assert [record["outcome"] for record in journal(site) if record["kind"] == "pool-ended"] == ["failed"]
    assert asked(tmp_path, "SELECT count(*) FROM xobackup_unplaced") == 0


def test_unexpected_fulls_are_counted_over_all_vms_that_workers_do(site: Site, tmp_path: Path) -> None:
    engine(site, PLACES.format(directory=tmp_path) + 'site = "rome"\n')
    text = site.config.read_text()
    site.config.write_text(text.replace("[jobs.nightly]", "[jobs.nightly]\nunexpected_fulls_max = 1"))
    worker = site.start("worker", "--site", "paris")
    wait_until(lambda: len(alive(site)) == 1)
    site.xobackup("run")
    for ref, vm in list(site.pool.model.records("VM").items()):
        if vm["is_a_snapshot"]:
            site.pool.call("VM.destroy", ref)
    for ref, vdi in list(site.pool.model.records("VDI").items()):
        if vdi["is_a_snapshot"]:
            site.pool.call("VDI.destroy", ref)
    report = site.xobackup("run", "--json", code=3).of("report")[0]
    outcomes = {vm["outcome"]: vm["reason"] for vm in report["vms"]}
    assert set(outcomes) == {"ok", "failed"} and "more than 1 VMs would unexpectedly" in outcomes["failed"]
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=TIMEOUT_S)


def test_vms_of_a_run_are_spread_over_remotes_by_what_all_workers_gave(site: Site, tmp_path: Path) -> None:
    site.other.mkdir(exist_ok=True)
    site.configure("distribute = true", "vms_max = 2", remotes='["nas", "other"]')
    site.config.write_text(site.config.read_text() + PLACES.format(directory=tmp_path))
    worker = site.start("worker", "--slots", "2")
    wait_until(lambda: len(alive(site)) == 1)
    report = site.xobackup("run", "--json").of("report")[0]
    assert report["outcome"] == "ok"
    assert sorted(remote for vm in report["vms"] for remote in vm["points"]) == ["nas", "other"]
    assert asked(tmp_path, "SELECT count(DISTINCT remote) FROM xobackup_given WHERE active = 0") == 2
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=TIMEOUT_S)
