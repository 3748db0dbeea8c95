"""Whatever kills the run: the VM it shut down is started by the next start of any run, once, and only if due."""

import itertools
import os
import signal

import pytest

from xobackup.engine import keys
from xobackup.engine.job import FULL, Selector, Settings, VmRule
from xobackup.engine.taking.owed import ShutdownMark, mark_of
from xotest.dying import Death, run_and_die
from xotest.killed import let_the_lock_go_stale, run_child
from xotest.lab import Lab
from xotest.power import lifecycle, owes_nothing, state_of
from xotest.views import uid

NOBODY = Selector(include=(VmRule(name="nobody"),))
OFFLINE = Settings(snapshot="offline", retention=3, lock_wait_s=0)
EXPORTED = Settings(mode=FULL, offline_backup=True, retention=3, lock_wait_s=0)


def another_run(lab: Lab) -> list[str]:
    """A run of a job that has nothing to do with the VM; returns what it did to it."""
    before = len(lifecycle(lab))
    lab.run(name="another", selector=NOBODY, settings=Settings(lock_wait_s=0))
    return lifecycle(lab)[before:]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [OFFLINE, EXPORTED], ids=["snapshot", "export"])
def test_killed_between_any_two_calls(lab: Lab, settings: Settings) -> None:
    """From just before the VM is asked to go down until it owes nothing any more."""
    halted = 0
    full = os.environ.get("XOTEST_SWEEP") == "full"
    for number in itertools.count(1, 1 if full else 2):
        for after in (False, True) if full else (number % 4 == 1,):
            death = Death(number, since="VM.get_metrics", after=after)
            assert run_and_die(lab, death, settings=settings), death.calls
            was_halted = state_of(lab) == "Halted"
            halted += was_halted
            assert another_run(lab) == (["start"] if was_halted else []), death.calls[-5:]
            assert owes_nothing(lab), death.calls[-5:]
            assert another_run(lab) == [], "once is enough"
        if sum(keys.SHUTDOWN in call for call in death.calls) >= 3:  # set by two calls, and removed
            break
    assert halted > 3 and number > 8
    lab.clock.advance(60)
    lab.run(settings=settings)
    lab.check()
    lab.assert_tidy()


def test_the_real_process_killed_in_the_middle_of_an_offline_backup(lab: Lab) -> None:
    lab.on_disk()
    lab.settings = EXPORTED
    done = run_child(lab, number=signal.SIGKILL, at=2, name="*.xva.part")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert state_of(lab) == "Halted" and not lab.points()
    assert another_run(lab) == ["start"] and owes_nothing(lab)
    let_the_lock_go_stale(lab)
    lab.run()
    lab.check()
    lab.assert_tidy()


def dead_while_halted(lab: Lab) -> None:
    assert run_and_die(lab, Death(1, since="Async.VM.snapshot"), settings=OFFLINE)
    assert state_of(lab) == "Halted"


def test_a_vm_that_somebody_started_and_stopped_since_stays_halted(lab: Lab) -> None:
    dead_while_halted(lab)
    lab.pool.call("VM.start", lab.vm, False, False)
    metrics = lab.pool.model.get("VM", lab.vm)["metrics"]
    lab.pool.model.update("VM_metrics", metrics, start_time="20990101T00:00:00Z")
    lab.pool.call("VM.hard_shutdown", lab.vm)
    assert another_run(lab) == [] and state_of(lab) == "Halted"
    assert keys.SHUTDOWN not in lab.pool.model.get("VM", lab.vm)["other_config"]


def test_a_vm_that_somebody_started_is_left_as_it_is(lab: Lab) -> None:
    dead_while_halted(lab)
    lab.pool.call("VM.start", lab.vm, False, False)
    assert another_run(lab) == [] and owes_nothing(lab)


def test_the_next_run_of_the_job_starts_it_from_another_machine_too(lab: Lab) -> None:
    dead_while_halted(lab)
    for mark in (lab.directory / "state" / "active").iterdir():
        mark.unlink()  # another machine does not see them
    lab.run(settings=OFFLINE)
    assert owes_nothing(lab)


def test_a_start_that_fails_is_tried_again_at_the_next_start(lab: Lab) -> None:
    dead_while_halted(lab)
    lab.pool.faults.fail_call("VM.start", "HOST_NOT_ENOUGH_FREE_MEMORY", ["1", "0"])
    assert another_run(lab) == ["start"] and state_of(lab) == "Halted"
    assert another_run(lab) == ["start"] and owes_nothing(lab)


def test_a_copy_of_the_vm_owes_nothing() -> None:
    mark = ShutdownMark(run_id="r", job_id="j", vm_uuid=uid("web"), started="20260101T00:00:00Z")
    assert mark_of({keys.SHUTDOWN: str(mark)}, uid("web")) == mark
    assert mark_of({keys.SHUTDOWN: str(mark)}, uid("copy")) is None
    for text in ("", "x", "a b c", "a b c d e", "\x00"):
        assert mark_of({keys.SHUTDOWN: text}, uid("web")) is None
