"""``clean --pool`` and ``doctor``: what dead runs left on a pool, told and removed by hand, and nothing else."""

from __future__ import annotations

import pytest

from xobackup.engine import keys
from xobackup.engine.active import Active
from xobackup.engine.leftovers.claim import text_of
from xotest.pool_state import state_of
from xotest.site import Site

JOB, DEAD, ALIVE = "11111111-2222-4333-8444-555555555555", "dead-run", "living-run"


@pytest.fixture
def littered(site: Site) -> Site:
    """A run that died elsewhere two hours ago, one that works elsewhere now, and one that nothing is known of."""
    pool = site.pool
    vm = pool.vm_named("web")
    for run, age_s in ((DEAD, 7200.0), (ALIVE, 60.0)):
        active = Active(run_id=run, job_id=JOB, job="", pool_uuid="", vm_uuid="", since_s=0.0)
        text = text_of(active, pool.toolstack.clock.now_s() - age_s)
        pool.call("VM.add_to_other_config", vm, keys.claim_key(run, 0), text)
        pool.call("VM.snapshot", vm, keys.temporary_name(JOB, run))
        pool.call("task.create", keys.task_label(run, "export of web system"), "")
    pool.call("task.create", keys.task_label("unknown-run", "export of web data"), "")
    named = pool.call("VM.snapshot", vm, "[xobackup old] web")
    marks = {keys.JOB: JOB, keys.RUN: "unknown-run", keys.VM: site.uuid("web")}
    pool.call("VM.set_other_config", named, marks)
    pool.call("VM.snapshot", vm, "before the update")
    return site


def tasks(site: Site, run: str = "") -> list[str]:
    labels = [task["name_label"] for task in site.pool.model.records("task").values()]
    return [label for label in labels if label.startswith(f"xobackup {run}")]


def test_nothing_is_touched_before_it_is_asked_for(littered: Site) -> None:
    before = state_of(littered.pool)
    told = littered.xobackup("clean", "--pool", "sim").out
    assert f"would remove snapshot {keys.temporary_name(JOB, DEAD)}" in told and "died: it last said" in told
    assert f"kept snapshot {keys.temporary_name(JOB, ALIVE)}" in told and "may be alive" in told
    assert "before the update" not in told
    assert "add --apply" in told
    assert state_of(littered.pool) == before


def test_what_is_certain_goes_and_the_rest_stays(littered: Site) -> None:
    found = littered.xobackup("clean", "--pool", "sim", "--json").of("leftover")
    assert {(one["run"], one["thing"]) for one in found if one["state"] == "found"} == {
        (DEAD, "task"),
        (DEAD, "snapshot"),
        (DEAD, "mark"),
    }
    told = littered.xobackup("clean", "--pool", "sim", "--apply").out
    assert f"removed snapshot {keys.temporary_name(JOB, DEAD)}" in told
    names = {vm["name_label"] for vm in littered.pool.model.records("VM").values() if vm["is_a_snapshot"]}
    assert names == {keys.temporary_name(JOB, ALIVE), "[xobackup old] web", "before the update"}
    assert keys.claim_key(ALIVE, 0) in littered.pool.model.get("VM", littered.pool.vm_named("web"))["other_config"]
    assert len(tasks(littered, ALIVE)) == 1
    again = littered.xobackup("clean", "--pool", "sim", "--apply", "--json").of("leftover")
    assert {one["state"] for one in again} == {"kept"}


def test_the_operator_can_say_that_a_run_is_over(littered: Site) -> None:
    told = littered.xobackup("clean", "--pool", "sim", "--run", "unknown-run", "--run", ALIVE, "--apply").out
    assert "the operator says that its run is over" in told
    names = {vm["name_label"] for vm in littered.pool.model.records("VM").values() if vm["is_a_snapshot"]}
    assert names == {"before the update"}
    assert not tasks(littered)
    assert "nothing of a backup was left on pool sim" in littered.xobackup("clean", "--pool", "sim").out


def test_doctor_tells_leftovers_with_their_age_and_what_becomes_of_them(littered: Site) -> None:
    told = littered.xobackup("doctor").out
    line = next(line for line in told.splitlines() if keys.temporary_name(JOB, DEAD) in line)
    assert line.startswith("warning  pool sim: a dead run left") and "old; it is removed at the next start" in line
    assert "hint: see `xobackup clean --pool sim`" in told
    assert ALIVE not in told, "work in progress is nobody's trouble"


def test_a_run_removes_what_is_certain_by_itself(littered: Site) -> None:
    littered.xobackup("run", "nightly")
    names = {vm["name_label"] for vm in littered.pool.model.records("VM").values() if vm["is_a_snapshot"]}
    assert keys.temporary_name(JOB, DEAD) not in names and keys.temporary_name(JOB, ALIVE) in names


@pytest.mark.parametrize(
    "options", [("--pool", "sim", "--remote", "nas"), ("--pool", "sim", "--vm", "web"), ("--run", "x")]
)
def test_options_that_contradict_each_other_are_refused(site: Site, options: tuple[str, ...]) -> None:
    assert "error:" in site.xobackup("clean", *options, code=2).err


def test_a_pool_that_is_not_configured_is_named(site: Site) -> None:
    assert "nowhere" in site.xobackup("clean", "--pool", "nowhere", code=2).err


def test_a_pool_that_does_not_let_go_is_told_and_tried_again(littered: Site) -> None:
    littered.pool.faults.fail_call("VDI.destroy", "SR_BACKEND_FAILURE_461", ["", "", ""], times=1)
    result = littered.xobackup("clean", "--pool", "sim", "--apply", code=3)
    assert "does not let go of everything" in result.err and "could not remove snapshot" in result.out
    assert "removed snapshot" in littered.xobackup("clean", "--pool", "sim", "--apply").out
