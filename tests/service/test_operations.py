"""Operations: nothing that was ordered disappears, one goes at a time, what a crash cut off is told."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xobackup.clock import FakeClock
from xobackup.service.operations import (
    KEPT,
    WAITING_MAX,
    Ending,
    Hand,
    Lane,
    Operation,
    Operations,
    OrderedAlready,
    State,
    TooMany,
)

DONE = Ending(state=State.DONE, result={"found": 7})


@dataclass(slots=True)
class Held:
    """Work that goes on until it is let go or cancelled; ``begun`` in order."""

    let_go: threading.Event = field(default_factory=threading.Event)
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    begun: list[str] = field(default_factory=list)

    def __call__(self, operation: Operation, hand: Hand) -> Ending:
        self.begun.append(operation.about)
        hand.say(f"{operation.about} goes on")
        self.began.release()
        with hand.cancel.waking(self.let_go.set):
            assert self.let_go.wait(30)
        if hand.cancel.cancelled:
            return Ending(state=State.CANCELLED, problem=hand.cancel.reason)
        return DONE


def at(directory: Path, perform: Callable[[Operation, Hand], Ending], **more: object) -> Operations:
    numbers = itertools.count()
    return Operations(
        directory,
        perform,
        clock=FakeClock(),
        new_id=lambda: f"{next(numbers):08}",
        **more,  # type: ignore[arg-type]
    )


def order(operations: Operations, about: str, lane: Lane = Lane.WORK) -> Operation:
    return operations.order("verify", lane, {"vm": about}, about=about, who="oleg")


def test_one_goes_at_a_time_looks_beside_it_and_a_crash_is_told(tmp_path: Path) -> None:
    held, told = Held(), []
    operations = at(tmp_path, held, ended=told.append)
    first, second = order(operations, "first"), order(operations, "second")
    assert held.began.acquire(timeout=30) and held.begun == ["first"], "the other waits for its turn"
    look = order(operations, "look", Lane.LOOK)
    assert held.began.acquire(timeout=30) and held.begun == ["first", "look"], "a look does not wait for work"
    with pytest.raises(OrderedAlready, match="ordered already, by oleg"):
        order(operations, "second")

    later = at(tmp_path, held)  # as after a SIGKILL now
    assert {one.about for one in later.interrupted} == {"first", "second", "look"}
    for one in (first, second, look):
        after = later.get(one.id)
        assert after is not None and after.state is State.INTERRUPTED and "the service ended" in after.problem
        assert "order it again" in after.hint and after.who == "oleg" and after.asked == {"vm": one.about}

    held.let_go.set()
    assert all(operations.wait(one.id, 30) for one in (first, look, second))
    done = operations.get(second.id)
    assert done is not None and done.result == {"found": 7} and done.said == ("second goes on",)
    assert {one.about for one in told} == {"first", "second", "look"} and len(told) == 3
    assert json.loads((tmp_path / "operations" / f"{second.id}.json").read_text())["state"] == "done"


def test_what_waits_or_goes_on_can_be_cancelled_and_a_stop_says_what_never_began(tmp_path: Path) -> None:
    held = Held()
    operations = at(tmp_path, held)
    first, second, third = (order(operations, name) for name in ("first", "second", "third"))
    assert held.began.acquire(timeout=30)
    assert operations.cancel(second.id, "not this one") and not operations.cancel(second.id, "again")
    assert operations.cancel(first.id, "nor this") and operations.wait(first.id, 30)
    states = {one.about: (one.state, one.problem) for one in operations.newest()}
    assert states["first"] == (State.CANCELLED, "nor this") and states["second"] == (State.CANCELLED, "not this one")
    assert operations.wait(third.id, 30), "its turn came"
    held.let_go.clear()
    fourth, fifth = order(operations, "fourth"), order(operations, "fifth")
    assert operations.stop("SIGTERM", wait_s=30) == []
    ended = [operations.get(one.id) for one in (fourth, fifth)]
    assert [one.state for one in ended if one] == [State.CANCELLED, State.INTERRUPTED]
    assert ended[1] is not None and "before it began" in ended[1].problem
    with pytest.raises(TooMany, match="the service stops: SIGTERM"):
        order(operations, "late")


def test_a_stop_may_wait_for_what_goes_on_until_somebody_is_in_a_hurry(tmp_path: Path) -> None:
    for name, hurried, state in (("patient", False, State.DONE), ("hurried", True, State.CANCELLED)):
        held, hurry = Held(), threading.Event()
        operations = at(tmp_path / name, held)
        one = order(operations, "first")
        assert held.began.acquire(timeout=30)
        stop = threading.Thread(
            target=lambda: operations.stop("SIGTERM", wait_s=30, finish_s=30, hurry=hurry)  # noqa: B023
        )
        stop.start()
        (hurry if hurried else held.let_go).set()
        stop.join(30)
        after = operations.get(one.id)
        assert after is not None and after.state is state, name


def test_a_disk_that_is_full_at_the_start_keeps_no_service_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    operations = at(tmp_path, held)
    one = order(operations, "first")
    assert held.began.acquire(timeout=30)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("xobackup.service.operations.write_whole", full)
        later = at(tmp_path, held)
    found = later.get(one.id)
    assert found is not None and found.state is State.INTERRUPTED
    held.let_go.set()
    assert operations.wait(one.id, 30)


def test_bounds_and_damaged_files(tmp_path: Path) -> None:
    held = Held()
    operations = at(tmp_path, held)
    for number in range(WAITING_MAX):
        order(operations, str(number))
    with pytest.raises(TooMany, match=f"{WAITING_MAX} operations wait"):
        order(operations, "one more")
    operations.stop("enough", wait_s=30)
    directory = tmp_path / "operations"
    one = json.loads(next(directory.glob("*.json")).read_text())
    for number in range(KEPT):
        old = {**one, "id": f"2020-{number:08}", "ordered_at": float(number), "state": "done"}
        (directory / f"2020-{number:08}.json").write_text(json.dumps(old))
    (directory / "damaged.json").write_text('{"id": 7')
    (directory / "other.json").write_text('["no operation"]')
    held.let_go.set()
    again = at(tmp_path, held)
    assert again.wait(order(again, "new").id, 30)
    assert len(again.newest(10_000)) <= KEPT and (directory / "damaged.json").exists()
