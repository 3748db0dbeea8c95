"""What a member's trouble means for the others."""

import pytest

from xobackup.engine.errors import (
    Cancelled,
    ChainsUnhealthy,
    GroupFailed,
    HookFailed,
    RunLocked,
    VmSkipped,
)
from xobackup.engine.group.judge import Member, judge
from xobackup.engine.job import IfOneFails

STOP, GO_ON = IfOneFails.STOP, IfOneFails.GO_ON


def members(**errors: Exception | None) -> list[Member]:
    return [Member(uuid=name, name=name, error=error, patient=True) for name, error in errors.items()]


@pytest.mark.parametrize("policy", IfOneFails)
def test_all_well_and_a_vm_without_disks_is_no_trouble(policy: IfOneFails) -> None:
    verdict = judge(members(a=None, b=VmSkipped("it has no disks")), policy)
    assert not verdict.ends and not verdict.left_out and verdict.final is None


def test_one_that_cannot_takes_all_with_it() -> None:
    verdict = judge(members(a=None, b=HookFailed("it said no"), c=None), STOP)
    assert set(verdict.ends) == {"a", "c"} and isinstance(verdict.ends["a"], GroupFailed)
    assert "b: it said no" in str(verdict.ends["a"]) and verdict.final is verdict.ends["a"]


def test_trouble_that_may_pass_is_worth_another_attempt_of_all() -> None:
    verdict = judge(members(a=None, b=RunLocked("somebody else", hint="wait")), STOP)
    error = verdict.ends["a"]
    assert isinstance(error, GroupFailed) and error.transient and error.hint == "wait" and verdict.final is None


def test_both_kinds_at_once_are_final() -> None:
    assert judge(members(a=RunLocked("x"), b=HookFailed("y"), c=None), STOP).final is not None


def test_one_that_waits_for_its_chains_makes_all_wait() -> None:
    verdict = judge(members(a=None, b=ChainsUnhealthy("unhealthy", ())), STOP)
    assert isinstance(verdict.ends["a"], ChainsUnhealthy) and "b" in str(verdict.ends["a"])
    impatient = [Member(uuid="b", name="b", error=ChainsUnhealthy("unhealthy", ())), *members(a=None)]
    assert isinstance(judge(impatient, STOP).ends["a"], GroupFailed)


def test_nobody_waits_for_a_group_that_has_failed() -> None:
    verdict = judge(members(a=HookFailed("no"), b=ChainsUnhealthy("unhealthy", ()), c=None), STOP)
    assert {uuid: type(error) for uuid, error in verdict.ends.items()} == {"b": GroupFailed, "c": GroupFailed}


def test_a_stop_is_no_failure_of_the_group() -> None:
    assert isinstance(judge(members(a=None, b=Cancelled("enough")), STOP).ends["a"], Cancelled)


def test_going_on_leaves_out_and_says_why() -> None:
    verdict = judge(members(a=None, b=HookFailed("it said no")), GO_ON)
    assert not verdict.ends and verdict.left_out == {"b": "it said no"}
