"""A company for some minutes: two sites in network namespaces, three workers, two control nodes, one database; 200 VMs
are backed up while machines are killed, stopped and cut off, by seed. Nothing is lost, and nothing is done twice at once.

``SEEDS="20 21 22" VMS=50 pytest tests/workers/test_two_sites.py`` tries others, with so many VMs each.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remotes.local import LocalRemote
from xobackup.repository.repository import Repository
from xotest.lab import sha256_of
from xotest.site import end_all
from xotest.sites import SITES, Sites, site_of, sites_at
from xotest.trouble import Crew, Troubles, wait

SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "").split()] or list(range(20))
VMS = int(os.environ.get("VMS", "10"))
"""Of each seed's job."""
MINUTES = 2
"""Over so many the starts are spread."""
TIMEOUT_S = 420.0
WORKERS = {"paris-1": "paris", "paris-2": "paris", "lyon-1": "lyon"}
CONTROL = ("control-1", "control-2")


def schedules(first: datetime) -> list[str]:
    lines = ["[service]", "runs_max = 4"]
    for number, seed in enumerate(SEEDS):
        at = first + timedelta(minutes=number * MINUTES // len(SEEDS))
        lines += [f"[schedules.s{seed}]", f'jobs = ["s{seed}"]', f'cron = "{at.minute} {at.hour} * * *"']
    return lines


@pytest.fixture
def sites(tmp_path):
    first = datetime.now(UTC).replace(second=0) + timedelta(seconds=80)
    engine = ['schedules = "shared"', 'wait = "5m"']
    with sites_at(tmp_path, seeds=SEEDS, vms=VMS, engine=engine, control=schedules(first)) as made:
        yield made
        end_all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_backups_while_everything_breaks(sites: Sites) -> None:
    for name, site in [*WORKERS.items(), *((one, "") for one in CONTROL)]:
        sites.machine(name, site=site)
    commands = {name: ("worker", "--slots", "4", "--json") for name in WORKERS}
    commands |= {name: ("serve", "--json") for name in CONTROL}
    processes = {name: sites.start(name, *arguments) for name, arguments in commands.items()}
    crew = Crew(workers=tuple(WORKERS), control=CONTROL, commands=commands, processes=processes)
    troubles = Troubles(sites=sites, crew=crew)
    troubles.watch()
    wait_for_the_end(sites, troubles)
