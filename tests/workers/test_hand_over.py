"""What workers say is taken over by the journal of the run, whenever its control node dies; and the VMs that they do
for a dead run end, before the next run's turn."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from xobackup.workers.opening import open_board
from xotest.site import STARTED, Site, end_all, environment, finish, site_at, wait_until

DIES = """
import os, sys
from xobackup.workers.board import Board
from xobackup.cli.main import main
real = Board.{moment}
def dying(board, run, *more):
    told = real(board, run, *more)
    news = more[0] if more else told
    if any(word.event["kind"] == "{kind}" for word in news.words):
        os.kill(os.getpid(), 9)
    return told
def dying_before(board, run, *more):
    if any(word.event["kind"] == "{kind}" for word in more[0].words):
        os.kill(os.getpid(), 9)
    return real(board, run, *more)
Board.{moment} = dying_before if "{moment}" == "heard" else dying
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def site(tmp_path: Path):
    with site_at(tmp_path) as made:
        made.config.write_text(f'{made.config.read_text()}[engine]\ndatabase = "sqlite:///{tmp_path}/engine.db"\n')
        yield made
        end_all()
        made.pool.faults.clear()


def journals(site: Site) -> list[list[dict[str, object]]]:
    found = sorted((site.state / "journal").glob("*.jsonl"))
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in found]


@pytest.mark.parametrize(
    ("moment", "kind"), [("news", "taken-by-worker"), ("heard", "taken-by-worker"), ("heard", "vm-planned")]
)
def test_no_word_is_lost_or_doubled_when_its_reader_dies(site: Site, moment: str, kind: str) -> None:
    """``news``: it has them and has not written them down; ``heard``: it has, and the board does not know."""
    worker = site.start("worker", "--slots", "2")
    board = open_board(f"sqlite:///{site.directory}/engine.db")
    wait_until(lambda: any(one.alive for one in board.workers()))
    dying = subprocess.Popen(
        [sys.executable, "-c", DIES.format(moment=moment, kind=kind), "run", "--config", str(site.config)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    STARTED.append(dying)
    assert dying.wait(60) == -signal.SIGKILL
    wait_until(lambda: not any(one.doing for one in board.workers()))
    board.close()
    report = finish(site.start("run", "--json")).of("report")[0]
    assert report["outcome"] == "ok", report
    first, second = journals(site)
    assert first[-1]["kind"] == "run-interrupted" and second[-1]["kind"] == "run-ended"
    told = Counter((record["kind"], record.get("vm")) for record in first if record["kind"] != "handed-out")
    begun = {record["vm"] for record in first if record["kind"] == "taken-by-worker"}
    assert begun, "somebody had begun"
    for vm in begun:
        phases = Counter(
            record["phase"] for record in first if (record["kind"], record.get("vm")) == ("phase-ended", vm)
        )
        assert phases and set(phases.values()) == {1}, phases
        for one in ("taken-by-worker", "vm-planned", "vm-ended"):
            assert told[one, vm] == 1, (one, told)
        points = site.xobackup("backups", "show", str(vm), "--remote", "nas", "--json").of("restore-point")
        assert len(points) == 2, "that of the dead run was published too"
    worker.terminate()
    worker.communicate()
