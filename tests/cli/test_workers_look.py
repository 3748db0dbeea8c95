"""What the service's look at the engine's database finds, and what it tells when that is away."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.cli.logs import Lines
from xobackup.cli.serving.workers import LATE_S, WorkersLook, release_of, why_waits
from xobackup.cli.serving.works import Works
from xobackup.clock import FakeClock
from xobackup.config.load import load_configuration
from xobackup.engine.limits.gates import Gate
from xobackup.engine.view import VmView
from xobackup.workers import standing
from xobackup.workers.members import Member, beat_member
from xobackup.workers.nodes import Node, beat_node
from xobackup.workers.opening import open_board
from xobackup.workers.peers import announce
from xobackup.workers.placing import Choice
from xobackup.workers.records import Seen, Task, Worker
from xobackup.workers.shares import SharedRates
from xobackup.workers.slots import take_slots
from xobackup.workers.standing import Waiting
from xobackup.workers.unplaced import forget_unplaced, note_unplaced

TEXT = """
state_directory = "{0}/state"
[engine]
database = "sqlite:///{0}/engine.db"
site = "paris"
[limits]
rate_limit_mib_s = 100
[links.line]
between = ["paris", "lyon"]
rate = "50 MB/s"
transfers_max = 2
[pools.p]
url = "10.0.0.1"
password = "x"
[remotes.nas]
url = "file:///mnt"
[jobs.nightly]
pool = "p"
remotes = ["nas"]
vms.include = [{{ name = "*" }}]
"""


def worker(name: str, **more) -> Worker:
    told = {"site": "paris", "host": "h", "pid": 1, "version": "1", "slots": 1, "reach": {"pools": ["p"]}, **more}
    return Worker(id=name, **told)


def seen(one: Worker, *, doing: int = 0, age_s: float = 1.0) -> Seen:
    return Seen(worker=one, age_s=age_s, up_s=1.0, skew_s=0.0, doing=({},) * doing)


@pytest.fixture
def look(tmp_path: Path) -> WorkersLook:
    path = tmp_path / "xobackup.toml"
    path.write_text(TEXT.format(tmp_path))
    return WorkersLook(Works(path, load_configuration(path), Lines()))


def task(name: str, queue: str, key: str = "") -> Task:
    order = {"vm": key or name, "vm_name": f"vm {name}", "job": "nightly"}
    return Task(id=name, run="r", key=key or name, queue=queue, order=order)


def test_all_of_it_in_one_look(look: WorkersLook, tmp_path: Path) -> None:
    board = open_board(f"sqlite:///{tmp_path}/engine.db")
    board.begin_run("r", job="nightly", host="h")
    board.beat(worker("a"), now_s=0.0, up_s=1.0)
    beat_member(board, Member(id="m", site="paris", host="control", pid=9, version="1"), up_s=1.0)
    announce(board, "a", address="10.0.0.1:8483", certificate="")
    node = Node(id="n", host="control", pid=9, version="1", lease_s=60, plan={})
    with board.writing() as connection:
        beat_node(board, connection, node, skew_s=0.0, up_s=1.0)
    board.put([task("1", "paris"), task("2", "paris"), task("3", "paris", key="1"), task("4", "oslo")])
    board.take("1", "a")
    vm = VmView.__new__(VmView)
    object.__setattr__(vm, "uuid", "u")
    object.__setattr__(vm, "name", "far")
    note_unplaced(board, "r", "nightly", vm, Choice(queue=None, reason="no site reaches all", waits=True))
    note_unplaced(board, "r", "nightly", vm, Choice(queue=None, reason="still none", waits=True))
    take_slots(board, "a", "t", [(Gate(key="link line transfers", name="l", what="transfers", room=2), 1)])
    rates = SharedRates(board, "m", FakeClock(), goes_on=True)
    share = rates.of("link line")
    share.rate(50e6), share.passes(1 << 20), share.waits()
    rates.renew()
    look.look()
    view = look.view()
    assert view.there and view.looked.at and not view.problem
    (one,) = view.workers
    assert (one.state, one.site, [(done.vm_name, done.job) for done in one.doing]) == (
        "ready",
        "paris",
        [("vm 1", "nightly")],
    )
    assert {one.site: (one.count, one.reason) for one in view.waiting} == {
        "paris": (2, "all 1 slots are taken"),
        "oslo": (1, "no worker of site oslo lives"),
        "-": (1, "still none"),
    }
    assert [(one.name, one.limit, one.holders) for one in view.limits if one.kind == "rate"] == [
        ("all jobs", 100 * 2**20, 0),
        ("link line", 50e6, 1),
    ]
    assert [(one.name, one.limit, one.used) for one in view.limits if one.kind == "places"] == [
        ("link line transfers", 2, 1)
    ]
    assert [one.host for one in view.members] == ["control"]
    assert [(one.host, one.state, one.running) for one in view.nodes] == [("control", "ready", ())]
    assert one.relay == "10.0.0.1:8483"
    forget_unplaced(board, "r", "u")
    board.end_run("r")
    look.look()
    assert look.view().waiting == ()
    board.close()


def test_a_database_that_is_away_is_a_problem_and_what_was_seen_stays(look: WorkersLook, tmp_path: Path) -> None:
    board = open_board(f"sqlite:///{tmp_path}/engine.db")
    board.beat(worker("a"), now_s=0.0, up_s=1.0)
    look.look()
    board.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standing, "standing_of", lambda _board: (_ for _ in ()).throw(OSError("the disk is gone")))
        look.look()
    view = look.view()
    assert "the disk is gone" in view.problem and len(view.workers) == 1 and view.looked.at


def test_a_database_that_hangs_is_told_and_nobody_waits(look: WorkersLook, monkeypatch: pytest.MonkeyPatch) -> None:
    held, clock = threading.Event(), FakeClock()
    look._clock = clock
    begun = threading.Event()

    def hang(_board):
        begun.set()
        held.wait(30)
        raise OSError("at last")

    monkeypatch.setattr(standing, "standing_of", hang)
    thread = threading.Thread(target=look.look)
    thread.start()
    assert begun.wait(30)
    assert look.view().problem == ""
    clock.advance(LATE_S + 1)
    assert "has not answered for 61 s" in look.view().problem
    held.set()
    thread.join()
    assert "at last" in look.view().problem


def test_why_a_task_waits() -> None:
    one = Waiting(queue="paris", vm="v", vm_name="", job="", age_s=1.0)
    assert why_waits(one, []) == "no worker of site paris lives"
    assert why_waits(replace(one, queue="*"), [seen(worker("a"), age_s=99)]) == "no worker lives"
    assert why_waits(one, [seen(worker("a", site="lyon"))]) == "no worker of site paris lives"
    assert why_waits(one, [seen(worker("a", draining=True))]) == "all workers there are draining"
    assert why_waits(one, [seen(worker("a"), doing=1)]) == "all 1 slots are taken"
    assert why_waits(replace(one, busy=True), [seen(worker("a"), doing=1)]) == "another task of the VM is being done"
    assert why_waits(replace(one, queue="*"), [seen(worker("a", site=""))]) == "about to be taken"


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ("1.2", ""),
        ("1.2.0", "another"),
        ("1.2rc1", "another"),
        ("1.10", "newer"),
        ("1.1.9", "older"),
        ("", ""),
        ("x", "older"),
    ],
)
def test_releases(theirs: str, told: str) -> None:
    assert release_of(theirs, "1.2") == told


def test_a_configuration_without_an_engine_shows_none(look: WorkersLook, tmp_path: Path) -> None:
    path = tmp_path / "xobackup.toml"
    path.write_text(TEXT.format(tmp_path).replace("database", "#"))
    bare = WorkersLook(Works(path, load_configuration(path), Lines()))
    bare.look()
    assert not bare.view().there and not bare.view().problem
