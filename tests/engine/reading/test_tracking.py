"""Tracking that cannot be switched on costs speed, not backups, and is not complained about in every run."""

from dataclasses import replace

import pytest

from xobackup.engine import events
from xobackup.engine.reading.ladder import CbtUse, NbdUse, Terms
from xobackup.engine.tracking import wanted, was_tracked
from xobackup.simpool import Options, SimPool
from xotest.lab import SMALL, Lab, only
from xotest.views import a_disk, a_job, a_snapshot


@pytest.mark.parametrize(
    ("terms", "cbt", "expected"),
    [
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.AUTO), False, True),
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.AUTO), True, False),
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.AUTO), None, False),
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.USE), False, False),
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.OFF), False, False),
        (Terms(nbd=NbdUse.OFF, cbt=CbtUse.AUTO), False, False),
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.AUTO, nbd_problem="none"), False, False),
    ],
)
def test_tracking_is_wanted_where_it_is_off_and_of_use(terms: Terms, cbt: bool | None, expected: bool) -> None:
    assert bool(wanted(terms, [a_disk(cbt=cbt)])) is expected


def test_the_jobs_newest_snapshot_tells_whether_it_was_on() -> None:
    job = a_job().id
    older, newer = a_snapshot("old", cbt=True), a_snapshot("new", datetime="20260102T00:00:00Z", cbt=False)
    assert not was_tracked(a_disk(snapshots=(newer, older)), job)
    assert was_tracked(a_disk(snapshots=(replace(newer, job_id="other"), older)), job)
    assert not was_tracked(a_disk(), job)


def test_a_licence_without_tracking_is_no_matter_for_a_warning(tmp_path) -> None:
    options = Options(cbt_licensed=False)
    with SimPool.start(tmp_path / "pool", spec=replace(SMALL, nbd="nbd"), options=options) as pool:
        lab = Lab(tmp_path, pool)
        lab.run()
        lab.write(0, 0, b"x")
        vm = only(lab.run())
        assert vm.vias == ("list-nbd",) and not vm.warnings and not lab.journal.of(events.CbtSwitchedOn)
        lab.check()


def test_a_failure_to_switch_it_on_is_a_warning_and_the_backup_goes_on(lab: Lab, pool: SimPool) -> None:
    pool.faults.fail_call("VDI.enable_cbt", "INTERNAL_ERROR", ["no"])
    vm = only(lab.run())
    assert len(vm.warnings) == 1 and "could not be switched on" in vm.warnings[0]
    assert len(lab.journal.of(events.CbtSwitchedOn)) == 1
    lab.check()


@pytest.mark.parametrize("release", ["7.1", "8.2"])
def test_older_hosts(tmp_path, release) -> None:
    options = Options.of_release(release)
    with SimPool.start(tmp_path / "pool", spec=replace(SMALL, nbd="nbd"), options=options) as pool:
        lab = Lab(tmp_path, pool)
        for _ in range(2):
            lab.write(0, 0, b"x")
            vm = only(lab.run())
        assert vm.vias == (("cbt-nbd",) if release == "8.2" else ("stream-delta",)) and not vm.warnings
        lab.check()
