"""Bad days of the database and of control nodes, in the middle of runs with workers, by seed, on real PostgreSQL.

Every VM has its backup, none was backed up twice at once (the pool's own log says so), the run ends or is taken over,
and the journal tells why. ``SEEDS="1 2 3" pytest tests/workers/test_bad_days.py`` tries others, and two more
kinds of trouble. Leases are six times shorter than usual.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from xobackup.workers.opening import open_board
from xobackup.workers.records import LEASE_S
from xotest.mounts import tmpfs
from xotest.pool_watch import PoolWatch
from xotest.postgres import PostgresServer, stoppable_postgres
from xotest.proxy import Line, Proxy, proxied
from xotest.site import STARTED, Site, end_all, environment, finish, site_at, wait_until, xobackup

FACTOR = 6.0
SHORT_S, LONG_S = 0.3 * LEASE_S / FACTOR, 1.6 * LEASE_S / FACTOR
SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "1").split()]
MORE = "SEEDS" in os.environ
TROUBLES = ["restart", "held", *(["cut"] if MORE else [])]
ENDS = ["stopped", *(["killed"] if MORE else [])]
MOMENTS = ("*VM.snapshot", "host.get_servertime")
"""Calls that every VM makes, at and around its snapshot."""
SUPPORT = Path(__file__).resolve().parents[1] / "support"
PAUSE = threading.Event()
SCHEDULE = """
[schedules.often]
jobs = ["nightly"]
cron = "0 3 1 1 *"
missed_max_h = 8784
[web]
listen = ""
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with stoppable_postgres() as made:
        yield made


@pytest.fixture
def database(server: PostgresServer) -> str:
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server.url


@pytest.fixture
def line(database: str) -> Iterator[Proxy]:
    with proxied(Path(sa.make_url(database).query["host"]) / ".s.PGSQL.5432") as made:
        yield made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path) as made:
        yield made
        end_all()
        made.pool.faults.clear()


def node(site: Site, name: str, url: str, more: str = "", *, state: Path | None = None) -> Path:
    """A configuration of another machine: with a state directory of its own, and its way to the database."""
    path = site.directory / f"{name}.toml"
    text = site.config.read_text().replace(str(site.state), str(state or site.directory / f"state-{name}"), 1)
    path.write_text(f'{text}[engine]\ndatabase = "{url}"\nwait = "2m"\n{more}')
    return path


def hasty(config: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command in a process with short leases."""
    path = environment()["PYTHONPATH"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xotest.hasty", str(FACTOR), *arguments, "--config", str(config)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(PYTHONPATH=f"{SUPPORT}:{path}"),
    )  # fmt: skip
    STARTED.append(process)
    return process


def workers_alive(database: str, count: int) -> None:
    board = open_board(database)
    wait_until(lambda: sum(one.alive for one in board.workers()) >= count)
    board.close()


def journals(state: Path) -> list[list[dict[str, object]]]:
    found = sorted((state / "journal").glob("*.jsonl"))
    return [[json.loads(text) for text in path.read_text().splitlines()] for path in found if path.stat().st_size]


def dead_runs(journal: list[dict[str, object]]) -> set[str]:
    """The runs of workers that lost their tasks."""
    lost = {record["worker"] for record in journal if record["kind"] == "worker-lost"}
    return {str(one["run_id"]) for one in journal if one["kind"] == "taken-by-worker" and one["worker"] in lost}


def points(site: Site) -> dict[str, int]:
    site.xobackup("verify", "--remote", "nas")
    return {
        vm: len(site.xobackup("backups", "show", vm, "--remote", "nas", "--json").of("restore-point"))
        for vm in ("web", "db")
    }


def end(*processes: subprocess.Popen[str]) -> str:
    """Stop them in good order; what they said."""
    said = ""
    for process in processes:
        process.terminate()
    for process in processes:
        out, err = process.communicate(timeout=60)
        said += out + err
    return said


@pytest.mark.waits
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_database_goes_away_in_the_middle_of_a_run(
    site: Site, server: PostgresServer, line: Proxy, database: str, trouble: str, seed: int
) -> None:
    """``restart``: of everybody's, at once; ``cut``, ``held``: the workers' line to it."""
    rng = random.Random(f"{trouble} {seed}")
    away_s = rng.choice((SHORT_S, LONG_S))
    far = database if trouble == "restart" else line.postgres_url()
    workers = [hasty(node(site, f"worker{number}", far), "worker", "--slots", "2", "--json") for number in range(2)]
    workers_alive(database, 2)
    happened = threading.Event()

    def strike() -> None:
        if happened.is_set():
            return
        happened.set()
        if trouble == "restart":
            server.stop()
        else:
            line.line = Line(trouble)
        threading.Thread(target=heal).start()

    def heal() -> None:
        PAUSE.wait(away_s)
        if trouble == "restart":
            server.start()
        line.line = Line.OPEN

    site.pool.faults.act_at(rng.choice(MOMENTS), strike, skip=rng.randrange(2))
    watch = PoolWatch(site.pool)  # after it: the first that matches acts
    done = finish(hasty(node(site, "control", database), "run", "--json"), timeout_s=120)
    report = done.of("report")[0]
    assert happened.is_set() and report["outcome"] == "ok", (trouble, seed, away_s, report, done.err)
    (journal,) = journals(site.directory / "state-control")
    kinds = [record["kind"] for record in journal]
    assert journal[-1]["kind"] == "run-ended" and kinds.count("vm-ended") == 2, kinds
    watch.check(dead_runs(journal))
    assert all(count in (1, 2) for count in points(site).values()), "at least once"
    assert "Traceback" not in end(*workers)


@pytest.mark.waits
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ENDS)
def test_a_control_node_goes_away_in_the_middle_of_a_run(site: Site, database: str, how: str, seed: int) -> None:
    rng = random.Random(f"{how} {seed}")
    more = f'schedules = "shared"\nlease = "15s"\n{SCHEDULE}'
    configs = [node(site, f"control{number}", database, more) for number in range(2)]
    worker = hasty(node(site, "worker", database), "worker", "--slots", "2", "--json")
    workers_alive(database, 1)
    nodes = [hasty(config, "serve", "--json") for config in configs]
    gone = threading.Event()

    def listed() -> list[dict[str, object]]:
        return xobackup("workers", "--json", "--config", configs[0]).of("node")

    wait_until(lambda: len([one for one in listed() if one["alive"]]) == 2)
    victims: list[subprocess.Popen[str]] = []

    def strike() -> None:
        runs = [one for one in listed() if one["running"]]
        if not runs:  # the services look at the pool too
            site.pool.faults.act_at(moment, strike)
            return
        victims.extend(one for one in nodes if one.pid == runs[0]["node"]["pid"])
        os.kill(victims[0].pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        gone.set()

    moment = rng.choice(MOMENTS)
    site.pool.faults.act_at(moment, strike, skip=rng.randrange(2))
    watch = PoolWatch(site.pool)
    due(database)
    wait_until(gone.is_set)
    victim = victims[0]
    other = nodes[1 - nodes.index(victim)]
    state = site.directory / f"state-control{nodes.index(other)}"
    wait_until(lambda: any(journal[-1]["kind"] == "run-ended" for journal in journals(state)))
    (second,) = journals(state)
    first_state = site.directory / f"state-control{nodes.index(victim)}"
    first = journals(first_state)[0]
    started = second[0]
    assert "which was not heard of since" in str(started["reason"])
    assert f"follows run {first[0]['run_id']}" in str(started["reason"])
    if how == "stopped":
        os.kill(victim.pid, signal.SIGCONT)
        wait_until(lambda: journals(first_state)[0][-1]["kind"] == "run-ended")
    said = end(*(one for one in nodes if (one.poll() is None and one is not victim) or how == "stopped"))
    if how == "stopped":
        assert "the run is stopped: the engine database did not hear of this node for too long" in said
    else:
        victim.communicate()
        again = hasty(configs[nodes.index(victim)], "serve", "--json")
        wait_until(lambda: journals(first_state)[0][-1]["kind"] == "run-interrupted")
        end(again)
    assert "it is begun again" in said
    watch.check(dead_runs(first) | dead_runs(second))
    assert second[-1]["outcome"] == "ok", second[-1]
    assert all(count in (1, 2) for count in points(site).values())
    board = open_board(database)
    with board.reading() as connection:
        left = connection.execute(sa.text("SELECT count(*) FROM xobackup_schedule_runs")).scalar()
    board.close()
    assert left == 0
    end(worker)


def due(database: str) -> None:
    """The schedule has one time that passed and is not settled: that of this January."""
    board = open_board(database)
    with board.writing() as connection:
        connection.execute(sa.text("UPDATE xobackup_schedules SET settled = '2026-01-01T02:00:00+00:00'"))
    board.close()


@pytest.mark.waits
def test_a_disk_that_is_full_at_one_worker_fails_there_and_is_told(site: Site, database: str) -> None:
    with tmpfs(1 << 20) as small:
        site.configure("retries = 1", "retry_pause_s = 5", replace=("retries = 0\n", ""))
        full = hasty(node(site, "full", database, state=small), "worker", "--slots", "2", "--json")
        workers_alive(database, 1)
        (small / "filler").write_bytes(bytes(max(0, os.statvfs(small).f_bavail * os.statvfs(small).f_frsize)))
        running = hasty(node(site, "control", database), "run", "--json")
        state = site.directory / "state-control"
        wait_until(lambda: sum(r["kind"] == "error" and bool(r["vm"]) for one in journals(state) for r in one) == 2)
        assert "No space left on device" in end(full), "it goes on, and its log says why"
        good = hasty(node(site, "good", database), "worker", "--slots", "2", "--json")
        report = finish(running, timeout_s=120).of("report")[0]
        (journal,) = journals(state)
        failed = [str(record["error"]) for record in journal if record["kind"] == "error"]
        assert all("No space left on device" in error for error in failed), failed
        assert report["outcome"] == "ok" and set(points(site).values()) == {1}, report
        end(good)
