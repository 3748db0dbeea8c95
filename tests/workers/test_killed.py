"""Workers die in the middle of VMs, by seed: every VM has its backup, and none was backed up twice at once.

``SEEDS="1 2 3" pytest tests/workers/test_killed.py`` tries others; with ``STOP=1`` workers are stopped instead, for
as long as their lease lasts (half a minute), and go on when another has taken over.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading

import pytest
import sqlalchemy as sa

from xobackup.workers import schema
from xobackup.workers.opening import open_board
from xotest.pool_watch import PoolWatch
from xotest.site import Site, end_all, finish, site_at

STOP = bool(os.environ.get("STOP"))
PAUSE = threading.Event()
SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "1").split()]
MOMENTS = ("*VM.snapshot", "VM.add_to_other_config", "host.get_servertime")
"""Calls that every VM makes, before, at and after its snapshot."""


@pytest.fixture
def site(tmp_path, empty_postgres):
    with site_at(tmp_path) as made:
        made.configure("vms_max = 4")
        made.config.write_text(made.config.read_text() + f'[engine]\ndatabase = "{empty_postgres}"\n')
        yield made
        end_all()
        made.pool.faults.clear()


def time_passes(board, site: Site, worker: str, pid: int) -> None:
    """A minute, for the lease and the locks of the dead."""
    with board.writing() as connection:
        old = sa.update(schema.workers).where(schema.workers.c.id == worker)
        connection.execute(old.values(seen=schema.workers.c.seen - 60))
    for note in (site.repository / ".xobackup" / "locks").glob("*.json"):
        lock = site.repository / "xo-vm-backups" / f"{note.stem}.lock"
        if json.loads(note.read_text())["pid"] == pid and lock.exists():
            past = lock.stat().st_mtime - 60
            os.utime(lock, (past, past))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_is_killed_in_the_middle_of_a_vm(site: Site, empty_postgres: str, seed: int) -> None:
    rng = random.Random(seed)
    board = open_board(empty_postgres)
    workers = [site.start("worker", "--slots", "2", "--json") for _ in range(2)]
    while sum(one.alive for one in board.workers()) < 2:
        PAUSE.wait(0.05)
    killed = []

    def kill() -> None:
        busy = sorted((one for one in board.workers() if one.doing), key=lambda one: one.worker.id)
        if not busy:  # the control node asks the pool too
            site.pool.faults.act_at(moment, kill)
            return
        victim = rng.choice(busy).worker
        killed.append(victim.id)
        if STOP:
            os.kill(victim.pid, signal.SIGSTOP)
            threading.Thread(target=wake, args=(victim,)).start()
            return
        os.kill(victim.pid, signal.SIGKILL)
        threading.Thread(target=time_passes, args=(board, site, victim.id, victim.pid)).start()

    def wake(victim) -> None:
        while any(one.doing for one in board.workers() if one.worker.id == victim.id):
            PAUSE.wait(0.2)
        os.kill(victim.pid, signal.SIGCONT)

    moment = rng.choice(MOMENTS)
    site.pool.faults.act_at(moment, kill, skip=rng.randrange(2))
    watch = PoolWatch(site.pool)
    done = finish(site.start("run", "--json"))
    report = done.of("report")[0]
    assert report["outcome"] == "ok" and killed, (seed, report, done.err)
    assert {vm["name"] for vm in report["vms"]} == {"web", "db"}
    journal = [
        json.loads(line) for line in sorted((site.state / "journal").glob("*.jsonl"))[-1].read_text().splitlines()
    ]
    taken = [record for record in journal if record["kind"] == "taken-by-worker"]
    lost = {record["worker"] for record in journal if record["kind"] == "worker-lost"}
    assert lost == set(killed) and any(record["delivery"] == 2 for record in taken), seed
    dead = {record["run_id"] for record in taken if record["worker"] in killed}
    watch.check(dead)
    site.xobackup("verify", "--remote", "nas")
    for vm in ("web", "db"):
        points = site.xobackup("backups", "show", vm, "--remote", "nas", "--json").of("restore-point")
        assert len(points) in (1, 2), "at least once"
    for process in workers:
        process.terminate()
        process.communicate()
    board.close()


@pytest.mark.slow
def test_the_worker_of_a_consistent_group_is_killed_and_another_begins_the_group_anew(
    site: Site, empty_postgres: str
) -> None:
    site.config.write_text(site.config.read_text().replace("[jobs.nightly]", "[jobs.nightly]\nconsistent = {}"))
    board = open_board(empty_postgres)
    workers = [site.start("worker", "--slots", "2", "--json") for _ in range(2)]
    while sum(one.alive for one in board.workers()) < 2:
        PAUSE.wait(0.05)
    killed = []

    def kill() -> None:
        (victim,) = [one.worker for one in board.workers() if one.doing]
        killed.append(victim.id)
        os.kill(victim.pid, signal.SIGKILL)
        threading.Thread(target=time_passes, args=(board, site, victim.id, victim.pid)).start()

    site.pool.faults.act_at("*VM.snapshot", kill, skip=1)
    done = finish(site.start("run", "--json"))
    report = done.of("report")[0]
    assert report["outcome"] == "ok" and killed, (report, done.err)
    assert {vm["name"] for vm in report["vms"]} == {"web", "db"}
    assert {vm["group"] for vm in report["vms"]} == {report["group"]["id"]}, "the second one's, whole"
    for vm in ("web", "db"):
        points = site.xobackup("backups", "show", vm, "--remote", "nas", "--json").of("restore-point")
        assert [point["group"] for point in points] == [report["group"]["id"]]
    with board.writing() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.tasks)).scalar() == 0
    site.xobackup("verify", "--remote", "nas")
    for process in workers:
        process.terminate()
        process.communicate()
    board.close()
