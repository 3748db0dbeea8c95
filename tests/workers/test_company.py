"""A company for some minutes: two sites in network namespaces, three workers, two control nodes, one database. Its
VMs are backed up, 200 in all, while machines are killed, stopped and cut off, by seed: nothing is lost, every restore
point holds what the disk held, and by the pools' own logs no VM was backed up twice at once.

``SEEDS="20 21 22" VMS=200 pytest tests/workers/test_company.py`` tries others, with so many VMs each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from remotes.local import LocalRemote
from xobackup.clock import SystemClock, utc
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.repository import Repository
from xobackup.workers import node_tables, schema
from xobackup.workers.opening import open_board
from xotest.company import SITES, Company, company_at
from xotest.lab import sha256_of
from xotest.site import end_all
from xotest.trouble import Crew, Troubles, wait
from xotest.witness import Witness, at_once

SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "").split()] or list(range(20))
VMS = int(os.environ.get("VMS", "10"))
"""Of each seed's job."""
MINUTES = 1
"""Over so many the starts are spread; one is: all at once, as at two in the morning."""
READY_S = 30.0
"""By then all nodes follow their schedules."""
TIMEOUT_S = 60.0 * MINUTES + 4.0 * len(SEEDS) * VMS
WORKERS = {"paris-1": "paris", "paris-2": "paris", "lyon-1": "lyon"}
CONTROL = ("control-1", "control-2")
ENGINE = ('schedules = "shared"', 'lease = "20s"', 'wait = "5m"')


def calendar() -> list[str]:
    """One schedule per seed, from the next minute on that all nodes will see."""
    first = utc(SystemClock().now_s() + READY_S).replace(second=0, microsecond=0) + timedelta(minutes=1)
    lines = ["[service]", "runs_max = 4"]
    for number, seed in enumerate(SEEDS):
        at: datetime = first + timedelta(minutes=number * MINUTES // len(SEEDS))
        lines += [f"[schedules.s{seed}]", f'jobs = ["s{seed}"]', f'cron = "{at.minute} {at.hour} * * *"']
    return lines


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Company]:
    with company_at(tmp_path, seeds=SEEDS, vms=VMS, engine=ENGINE, control=calendar()) as made:
        try:
            yield made
        finally:
            end_all()


@pytest.mark.waits
@pytest.mark.timeout(TIMEOUT_S + 300)
def test_vms_are_backed_up_while_everything_breaks(sites: Company) -> None:
    for name, site in [*WORKERS.items(), *((one, "") for one in CONTROL)]:
        sites.machine(name, site=site)
    commands = dict.fromkeys(WORKERS, ("worker", "--slots", "4", "--json")) | dict.fromkeys(CONTROL, ("serve",))
    processes = {name: sites.start(name, *arguments) for name, arguments in commands.items()}
    crew = Crew(workers=tuple(WORKERS), control=CONTROL, commands=commands, processes=processes)
    witnesses = [Witness(pool=pool) for pool in sites.pools.values()]
    troubles = Troubles(sites=sites, crew=crew)
    troubles.watch()
    wait_for_all(sites)
    troubles.end()
    assert len(troubles.told) == len(SEEDS), troubles.told
    wait_for_all(sites)
    records = journals(sites)
    lost = {
        one["run_id"]
        for one in records
        if one["kind"] == "taken-by-worker" and (one["worker"], one["vm"]) in lost_tasks(records)
    }
    for witness in witnesses:
        assert not at_once(witness.deeds(), lost), "\n".join(troubles.told)
    for site in SITES:
        compare(sites, site)
        sites.run(CONTROL[0], "verify", "--remote", f"nas-{site}")


def wait_for_all(sites: Company) -> None:
    """Until every VM has a restore point, and no task and no run of a schedule is left."""
    board = open_board(sites.server.url)
    clock, unfinished = SystemClock(), {"": ""}
    until_s = clock.monotonic_s() + TIMEOUT_S
    try:
        while unfinished:
            assert clock.monotonic_s() < until_s, unfinished
            wait(1.0)
            try:
                unfinished = left(sites, board)
            except Exception as error:  # noqa: BLE001 - the database is away now and then
                unfinished = {"database": str(error)}
    finally:
        board.close()


def left(sites: Company, board: Any) -> dict[str, Any]:
    """What is not done yet."""
    with board.reading() as connection:
        undone = schema.tasks.c.state.in_([schema.TODO, schema.DOING])
        tasks = connection.execute(sa.select(sa.func.count()).where(undone)).scalar_one()
        running = connection.execute(sa.select(node_tables.schedule_runs.c.name)).scalars().all()
    without = [name for site in SITES for name, points in points_of(sites, site).items() if not points]
    found = {"tasks": tasks, "schedules": running, "VMs without a restore point": without}
    return {what: value for what, value in found.items() if value}


def points_of(sites: Company, site: str) -> dict[str, list[Path]]:
    """Restore points by the names of VMs."""
    vms = [one for one in sites.pools[site].model.records("VM").values() if one["name_label"].startswith("s")]
    base = sites.repository(site) / "xo-vm-backups"
    return {
        one["name_label"]: sorted((base / one["uuid"]).glob("[0-9]*.json"))
        for one in vms
        if not (one["is_a_snapshot"] or one["is_control_domain"])
    }


def journals(sites: Company) -> list[dict[str, Any]]:
    """Everything that control nodes wrote down."""
    files = [path for node in CONTROL for path in sorted((sites.state(node) / "journal").glob("*.jsonl"))]
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def lost_tasks(records: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Workers that were given up, and the VMs that they had."""
    return {(one["worker"], one["vm"]) for one in records if one["kind"] == "worker-lost"}


def compare(sites: Company, site: str) -> None:
    """Every restore point has the bytes of the VM's disk, which nobody has written to."""
    pool = sites.pools[site]
    options = RepositoryOptions()
    repository = Repository(LocalRemote(sites.repository(site)), clock=SystemClock(), options=options)
    for name, points in points_of(sites, site).items():
        ref = pool.vm_named(name)
        wanted = pool.disk_sha256(pool.vdis_of(ref)[0])
        vm = pool.model.get("VM", ref)["uuid"]
        found = repository.points(vm).points
        assert len(found) == len(points)
        for point in found:
            with closing(repository.open_disk(point, point.disks[0].vdi_ref)) as disk:
                assert sha256_of(disk) == wanted, (name, point)
