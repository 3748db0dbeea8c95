"""Every class of failure, met at every place of a run, through the real client: what came of it, and what was left.

The matrix says for each place what each class leads to. It has an entry for every class of the table (a new class
without one fails), and the whole run is looked at: what the VM and its neighbour came to, the hint, the reason of a
full, the pool afterwards, and the next run. Some classes are taken at each place; ``XOTEST_SWEEP=full`` takes all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from xobackup.engine import events
from xobackup.engine.errors import Outcome
from xobackup.engine.job import Selector, VmRule
from xobackup.engine.report import RunReport, VmReport
from xobackup.engine.run import run_job
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xobackup.simpool.faults import FOREVER, Fault
from xobackup.xapi.failure_table import Action
from xobackup.xapi.failures import classify
from xotest.lab import MIB, TIMEOUTS, Lab
from xotest.pool_state import state_of

CODES: dict[Action, tuple[str, tuple[str, ...]]] = {
    Action.RELOGIN: ("SESSION_INVALID", ("OpaqueRef:old",)),
    Action.FOLLOW: ("HOST_IS_SLAVE", ("{master}",)),
    Action.WAIT: ("OTHER_OPERATION_IN_PROGRESS", ("VM", "OpaqueRef:x", "snapshot", "OpaqueRef:y")),
    Action.FULL: ("VDI_INCOMPATIBLE_TYPE", ("OpaqueRef:base", "cbt_metadata")),
    Action.GONE: ("HANDLE_INVALID", ("VDI", "OpaqueRef:gone")),
    Action.PROBE: ("MESSAGE_METHOD_UNKNOWN", ("what.ever",)),
    Action.OPERATOR: ("SR_BACKEND_FAILURE_44", ("", "There is insufficient space", "")),
    Action.INVESTIGATE: ("INTERNAL_ERROR", ("Not_found",)),
    Action.OURS: ("MAP_DUPLICATE_KEY", ("VM", "other_config", "OpaqueRef:x", "k")),
}
"""One code of each class."""

DISK = DiskSpec(name="system", size_bytes=2 * MIB, filled_bytes=MIB)
SPEC = PoolSpec(
    vms=(
        VmSpec(name="guest", disks=(DISK, replace(DISK, name="data"))),
        VmSpec(name="neighbour", disks=(replace(DISK, name="other"),)),
    )
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a failure is met: a call, or a moment of a transfer; ``skip`` so many first."""

    method: str
    skip: int = 0
    after_bytes: int | None = None
    nbd: bool = False
    without_events: bool = False

    def plant(self, pool: SimPool, action: Action) -> None:
        code, params = CODES[action]
        told = [text.format(master=pool.server_address) for text in params]
        if self.without_events:
            pool.faults.fail_call("event.from", "MESSAGE_METHOD_UNKNOWN", ["event.from"], times=FOREVER)
        if self.after_bytes is None:
            pool.faults.fail_call(self.method, code, told, skip=self.skip)
            return
        fault = Fault(kind="break", pattern=self.method, after_bytes=self.after_bytes, how="error", code=code)
        fault.params = told
        pool.faults.plan(fault)

    def unplant(self, pool: SimPool) -> None:
        """It must have fired."""
        assert not pool.faults.unfired()
        pool.faults.clear()


PLACES = {
    "login": Place("session.login_with_password"),
    "looking": Place("VDI.get_all_records"),
    "snapshot, asked": Place("Async.VM.snapshot"),
    "snapshot": Place("VM.snapshot"),
    "snapshot of a disk": Place("VDI.snapshot", skip=1),
    "marking": Place("VDI.set_other_config"),
    "export, before": Place("export", after_bytes=0),
    "export, inside": Place("export", after_bytes=3000),
    "task, events": Place("event.from"),
    "task, record": Place("task.get_record", without_events=True),
    "NBD": Place("VDI.get_nbd_info", nbd=True),
    "changed blocks": Place("VDI.list_changed_blocks", nbd=True),
    "old disk": Place("VDI.destroy"),
    "old snapshot": Place("VM.destroy"),
}


def outcome(report: RunReport, lab: Lab, since: int) -> str:
    """What a run came to, in a word."""
    if report.problems:
        return "no pool"
    guest = next(vm for vm in report.vms if vm.name == "guest")
    fresh = lab.journal.events[since:]
    if guest.outcome is Outcome.FAILED:
        return "failed"
    if guest.fulls:
        return "full"
    if any(isinstance(one, events.SteppedDown) for one in fresh):
        return "another way"
    return "warned" if guest.warnings else "ok"


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    place = PLACES[request.param]
    with SimPool.start(tmp_path / "pool", spec=replace(SPEC, nbd="nbd" if place.nbd else "")) as pool:
        rules = (VmRule(name="guest"), VmRule(name="neighbour"))
        made = Lab(tmp_path, pool, selector=Selector(include=rules))
        made.with_settings(vms_max=1, disks_max=1)
        made.run()
        made.assert_tidy()  # the host has let go of the disks
        yield made
        assert not pool.faults.unfired()


def run(lab: Lab) -> RunReport:
    lab.clock.advance(3600)
    lab.pool.gc()
    images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
    report = run_job(lab.job(), lab.world())
    for vm in report.vms:
        if vm.name == "guest":
            lab.expected.update(dict.fromkeys(vm.points.items(), images))
    return report


OK, FAILED, FULL, OTHER, WARNED, NO_POOL = "ok", "failed", "full", "another way", "warned", "no pool"
HANDLED = {Action.RELOGIN: OK, Action.FOLLOW: OK, Action.WAIT: OK}
"""What a call that does the same when done twice comes to; all else is as the place says."""
CUT_OFF = {Action.WAIT: FAILED}
"""Within a body nothing can be asked again."""

MATRIX: dict[str, tuple[str, dict[Action, str]]] = {
    "login": (NO_POOL, {Action.FOLLOW: OK, Action.WAIT: OK}),
    "looking": (NO_POOL, HANDLED),
    "snapshot, asked": (FAILED, HANDLED),
    "snapshot": (FAILED, {Action.WAIT: OK}),
    "snapshot of a disk": (FAILED, {Action.WAIT: OK}),
    "marking": (FAILED, HANDLED),
    "export, before": (FAILED, {Action.WAIT: OK, Action.FULL: FULL}),
    "export, inside": (FAILED, {Action.FULL: FULL}),
    "task, events": (FAILED, {**HANDLED, Action.PROBE: OK}),
    "task, record": (FAILED, HANDLED),
    "NBD": (OTHER, HANDLED),
    "changed blocks": (OTHER, HANDLED),
    "old disk": (WARNED, {Action.WAIT: OK, Action.GONE: OK}),
    "old snapshot": (WARNED, {Action.WAIT: OK, Action.GONE: OK}),
}
"""By place: what any class leads to, but these."""


def test_the_matrix_has_every_class_and_place() -> None:
    assert set(CODES) == set(Action) and set(MATRIX) == set(PLACES)
    assert all(classify(code, params).action is action for action, (code, params) in CODES.items())


def chosen(place: str) -> list[Action]:
    """All classes, or those that are special at this place, and one of the others, another one for each place."""
    special = [action for action in Action if action in MATRIX[place][1]]
    usual = [action for action in Action if action not in special]
    if os.environ.get("XOTEST_SWEEP") == "full":
        return [*special, *usual]
    return [*special, usual[list(MATRIX).index(place) % len(usual)]]


def test_every_class_is_met_somewhere_even_when_only_some_are_taken() -> None:
    assert {action for place in MATRIX for action in chosen(place)} == set(Action)


@pytest.mark.slow
@pytest.mark.parametrize(("lab", "place"), [(name, name) for name in PLACES], indirect=["lab"])
def test_a_failure_at_this_place_is_met_as_its_class_says(lab: Lab, place: str) -> None:
    usual, others = MATRIX[place]
    before = state_of(lab.pool)
    for number, action in enumerate(chosen(place)):
        code, expected = CODES[action][0], others.get(action, usual)
        lab.write(0, number * 512, b"changed")
        since, began_s = len(lab.journal.events), lab.clock.now_s()
        PLACES[place].plant(lab.pool, action)
        report = run(lab)
        told = f"{action} at {place}: {lab.why(report)}"
        assert outcome(report, lab, since) == expected, told
        PLACES[place].unplant(lab.pool)
        if action is Action.WAIT and expected == OK:
            assert lab.clock.now_s() - began_s >= 3600 + TIMEOUTS.busy_first_s, told
        if expected == NO_POOL:
            assert code in report.problems[0] and not report.vms, told
            assert any(one.hint for one in lab.journal.events[since:] if isinstance(one, events.Failed)), told
        else:
            assert next(vm for vm in report.vms if vm.name == "neighbour").outcome is Outcome.OK, told
            check_guest(next(vm for vm in report.vms if vm.name == "guest"), lab, since, code, expected, told)
        lab.check(finished=False)
        lab.assert_tidy()
        if action is Action.GONE and expected == OK:  # it was a lie: what is called gone is still there
            assert run(lab).outcome is Outcome.OK
        if expected != WARNED:
            assert state_of(lab.pool) == before, told
    assert run(lab).outcome is Outcome.OK
    lab.check()
    lab.assert_tidy()
    assert state_of(lab.pool) == before


def check_guest(vm: VmReport, lab: Lab, since: int, code: str, expected: str, told: str) -> None:
    """It says what happened, and what to do."""
    fresh = lab.journal.events[since:]
    if expected == FAILED:
        assert code in vm.reason and vm.hint and not vm.points, told
    if expected == FULL:
        assert any(code in one.reason for one in fresh if isinstance(one, events.FellBackToFull)), told
    if expected == OTHER:
        assert any(code in one.reason for one in fresh if isinstance(one, events.SteppedDown)), told
        assert vm.fulls == 0, told
    if expected == WARNED:
        assert code in vm.warnings[0] and vm.points, told
