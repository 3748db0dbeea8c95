"""The real process, killed or stopped at planned and at random moments: nothing lost, the next run a success.

The repository is on disk, the process is another one, the signal is real. Only the ten seconds after which a dead
holder's lock is stale are not waited for: the lock's time is set back instead.
"""

import json
import random
import signal

import pytest

from xobackup.engine import events
from xobackup.simpool import SimPool
from xotest.killed import let_the_lock_go_stale, run_child
from xotest.lab import Lab, only


@pytest.fixture
def stored(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """Two points at a retention of two, so that the next run merges; a third's writes are waiting."""
    lab.vhd_directory = getattr(request, "param", "files") == "directories"
    lab.on_disk()
    lab.with_settings(retention=2)
    workload = lab.pool.workload(lab.vm, seed=5)
    for _ in range(2):
        workload.step()
        lab.run()
    workload.step()
    return lab


def recovers(lab: Lab) -> None:
    lab.check(finished=False)
    let_the_lock_go_stale(lab)
    lab.write(0, 0, b"after the trouble")
    vm = only(lab.run())
    assert vm.deltas == 2, "a killed run is no reason for a full"
    lab.check()
    lab.assert_tidy()
    assert len(lab.points()) == 2 and len(lab.snapshots()) == 1


MERGES = {"files": ("write_at", "*/2*Z.vhd"), "directories": ("rename", "*/blocks/*")}


@pytest.mark.parametrize("stored", ["files", "directories"], indirect=True)
@pytest.mark.parametrize("at", [1, 3])
def test_killed_in_the_middle_of_a_merge(stored: Lab, at: int) -> None:
    operation, name = MERGES["directories" if stored.vhd_directory else "files"]
    done = run_child(stored, number=signal.SIGKILL, at=at, operation=operation, name=name)
    if stored.vhd_directory or operation == "write_at":
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(stored.points()) == 2, "the new point is there, the oldest is gone, its merge was cut off"
    assert list((stored.directory / "repository").glob("**/.*.merge.json")), "the merge had begun"
    recovers(stored)


@pytest.mark.parametrize(
    ("operation", "name", "at"),
    [
        ("make_directory", "*.lock", 1),
        ("write_at", "*.part", 2),
        ("sync", "*.part", 2),
        ("rename", "*.part", 2),
        ("put", "*Z.json.part", 1),
        ("rename", "*Z.json.part", 1),
        ("put", "*cache.json.gz.part", 1),
        ("delete", "*Z.json", 1),
        ("remove_directory", "*.lock", 1),
    ],
)
def test_killed_in_the_middle_of_a_run(stored: Lab, operation: str, name: str, at: int) -> None:
    done = run_child(stored, number=signal.SIGKILL, at=at, operation=operation, name=name)
    assert done.returncode == -signal.SIGKILL, done.stderr
    recovers(stored)
    closed = [
        path for path in (stored.directory / "state" / "journal").iterdir() if b"run-interrupted" in path.read_bytes()
    ]
    assert len(closed) == 1


@pytest.mark.parametrize("draw", range(4))
def test_stopped_by_sigterm_at_a_random_moment(stored: Lab, pool: SimPool, draw: int, request) -> None:
    at = random.Random(f"sigterm {draw}").randint(1, 60)
    done = run_child(stored, number=signal.SIGTERM, at=at)
    assert done.returncode == 0, f"change {at}: {done.stderr}"
    report = json.loads(done.stdout)
    assert report["outcome"] in ("cancelled", "ok"), report
    stored.assert_tidy()
    assert not list((stored.directory / "repository").glob("xo-vm-backups/*.lock"))
    recovers(stored)
    assert not stored.journal.of(events.LeftoverCleaned), "it had cleaned up itself"
