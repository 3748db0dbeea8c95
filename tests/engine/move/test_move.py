"""A VM changes pools: with its last byte, with one stop, and never twice."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from remotes.faults import PowerCut
from xobackup.engine import keys
from xobackup.engine.errors import EngineError, UsageError, VmRefused
from xobackup.engine.move import move as moving
from xobackup.engine.move.move import RAN, replicate
from xobackup.engine.move.request import MoveRequest, Round, enough
from xobackup.simpool.failures import Failure
from xobackup.xapi.errors import XapiError
from xotest.dying import Death, dying_session, kept


def test_rounds_end_when_one_was_short_or_there_were_enough(mover) -> None:
    request: MoveRequest = mover.request(short_s=10, rounds_max=3)
    rounds = [Round(duration_s=took, read_bytes=1, fulls=0) for took in (100.0, 50.0, 40.0)]
    assert not enough([], request) and not enough(rounds[:2], request) and enough(rounds, request)
    assert enough([Round(duration_s=9.0, read_bytes=1, fulls=0)], request)


def test_it_runs_there_with_its_last_byte_and_not_here(mover) -> None:
    two = mover.two
    real = moving.replicate
    written: list[int] = []

    def writing(world, request):
        done = real(world, request)
        if mover.here == "Running":
            written.append(len(written))
            two.lab.write(0, len(written) << 16, b"written while it was moved")
        return done

    moving.replicate = writing
    try:
        moved = mover(short_s=-1, rounds_max=3)
    finally:
        moving.replicate = real
    assert len(moved.rounds) == 4 and written == [0, 1, 2] and moved.rounds[0].fulls == 2
    assert [one.fulls for one in moved.rounds[1:]] == [0, 0, 0], "later rounds are deltas"
    assert mover.here == "Halted" and len(mover.there()) == 1 and mover.there()[0]["uuid"] == moved.new_uuid
    assert mover.images_there() == mover.images() and not moved.reason
    vm = two.lab.pool.model.get("VM", mover.vm)
    assert vm["blocked_operations"]["start"] == RAN and keys.SHUTDOWN not in vm["other_config"]
    assert mover.there()[0]["name_label"] == "guest"
    with pytest.raises(Failure, match="OPERATION_BLOCKED"):
        two.lab.pool.call("VM.start", mover.vm, False, False)


def test_again_after_it_is_done_changes_nothing(mover) -> None:
    first = mover()
    again = mover()
    assert again.new_uuid == first.new_uuid and again.rounds == () and len(mover.there()) == 1


def test_a_round_alone_moves_nothing(mover) -> None:
    done = replicate(mover.two.lab.world(), mover.request())
    assert done.fulls == 2 and mover.here == "Running" and mover.there() == []


def test_a_halted_vm_is_moved_too(mover) -> None:
    mover.two.lab.pool.call("VM.hard_shutdown", mover.vm)
    moved = mover()
    assert moved.downtime_s == 0 and mover.here == "Halted" and mover.images_there() == mover.images()


def test_a_guest_that_does_not_shut_down_goes_on_running(mover) -> None:
    mover.two.lab.pool.faults.fail_call("VM.clean_shutdown", "VM_SHUTDOWN_TIMEOUT", ["", "600"])
    with pytest.raises(VmRefused, match="did not shut down"):
        mover()
    vm = mover.two.lab.pool.model.get("VM", mover.vm)
    assert mover.here == "Running" and keys.SHUTDOWN not in vm["other_config"] and not vm["blocked_operations"]
    assert mover().name == "guest", "the replica was kept: the next try only needs what changed"


@pytest.mark.parametrize("call", ["VM.clone", "VM.start"])
def test_what_fails_there_starts_it_here_again(mover, call: str) -> None:
    mover.two.other.faults.fail_call(call, "INTERNAL_ERROR", ["no"], times=9)
    with pytest.raises(EngineError):
        mover()
    mover.two.other.faults.clear()
    vm = mover.two.lab.pool.model.get("VM", mover.vm)
    assert mover.here == "Running" and not vm["blocked_operations"] and mover.there() == []
    mover.two.lab.write(0, 1 << 20, b"written after the failed try, by a guest that ran on")
    moved = mover()
    assert mover.here == "Halted" and len(mover.there()) == 1 and moved.rounds
    assert mover.images_there() == mover.images(), "not what the first try had made"


@pytest.mark.parametrize("when", ["last round", "arrival"])
def test_a_target_that_is_gone_after_the_stop_costs_a_stop_and_nothing_else(mover, when: str) -> None:
    lab = mover.two.lab
    world = lab.world()

    def connect(address):
        if address.url != lab.address.url and mover.here == "Halted":
            left = bool(lab.pool.model.get("VM", mover.vm)["blocked_operations"])
            if when == "last round" or left:
                raise XapiError("the target's pool does not answer")
        return world.connect(address)

    with pytest.raises((EngineError, XapiError)):
        moving.move(replace(world, connect=connect), mover.request())
    vm = lab.pool.model.get("VM", mover.vm)
    assert mover.here == "Running" and not vm["blocked_operations"] and keys.SHUTDOWN not in vm["other_config"]
    mover()
    assert mover.here == "Halted" and mover.images_there() == mover.images()


def test_killed_after_it_left_and_then_it_cannot_start_there(mover, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_arguments, **_more):
        raise Killed

    with monkeypatch.context() as dead:
        dead.setattr(moving._Move, "_arrive", die)
        dead.setattr(moving._Move, "_come_back", lambda self, **_: None)
        with pytest.raises(Killed):
            mover()
    assert mover.here == "Halted"
    mover.two.other.faults.fail_call("VM.start", "INTERNAL_ERROR", ["no"])
    with pytest.raises(EngineError):
        mover()
    assert mover.here == "Running", "else it would run nowhere"


def test_a_vm_that_cannot_be_moved(mover) -> None:
    with pytest.raises(UsageError, match="has no VM"):
        mover(vm_uuid="0" * 8 + "-0000-4000-8000-" + "0" * 12)
    mover.two.lab.pool.call("VM.suspend", mover.vm)
    with pytest.raises(UsageError, match="suspended"):
        mover()


SWEEP = os.environ.get("XOTEST_SWEEP") == "full"
DEATHS = [
    ("source", "VM.clean_shutdown", range(1, 400) if SWEEP else (2, 5)),
    ("target", "Async.VM.clone", range(1, 400) if SWEEP else (2, 19)),
]


@pytest.mark.parametrize(("side", "since", "deaths"), DEATHS, ids=["source", "target"])
def test_wherever_it_dies_it_never_runs_twice_and_can_be_run_again(mover, side, since, deaths) -> None:
    """Dies at calls to the source's pool after the shutdown began, or to the target from its clone on; the next try
    ends well. ``XOTEST_SWEEP=full``: at each of them."""
    lab = mover.two.lab
    url = lab.address.url if side == "source" else mover.two.address.url
    mover()
    for at in deaths:
        back(mover)
        death = Death(at, since=since, after=bool(at % 2))
        world = lab.world()
        sessions = []

        def connect(address, death=death, sessions=sessions, world=world):
            if address.url != url:
                return world.connect(address)
            sessions.append(dying_session(lab, address, death))
            return sessions[-1]

        with kept(lab.directory / "state" / "active", death):
            try:
                moving.move(replace(world, connect=connect), mover.request(name=f"move-{at}"))
            except PowerCut:
                assert death.dead
        for session in sessions:
            session.close()
        assert not (mover.here == "Running" and running(mover, f"move-{at}")), f"death at {at}"
        moving.move(lab.world(), mover.request(name=f"move-{at}"))
        assert mover.here == "Halted" and running(mover, f"move-{at}"), f"death at {at}"
        if not death.dead:
            break
    else:
        assert not SWEEP, "it never came to its end"


def running(mover, name: str) -> bool:
    return any(vm["other_config"].get(keys.FAILED_OVER, "").startswith(f"{name} ") for vm in mover.there())


def back(mover) -> None:
    """As before the move: it runs here, and nothing there."""
    lab, other = mover.two.lab, mover.two.other
    for vm in mover.there():
        other.call("VM.hard_shutdown", other.model.by_uuid("VM", vm["uuid"]))
    for name in list(lab.pool.model.get("VM", mover.vm)["blocked_operations"]):
        lab.pool.call("VM.remove_from_blocked_operations", mover.vm, name)
    lab.pool.call("VM.start", mover.vm, False, False)
