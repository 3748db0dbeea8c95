"""Trying again helps where it can, never twice where it must not, and always ends."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes import errors
from remotes.contract import Remote
from remotes.faults import Fault, Faults
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from remotes.retrying import Retrier, RetryingRemote, RetryPolicy


class ManualClock:
    """Moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now_s(self) -> float:
        return 1_000_000.0 + sum(self.slept)

    def monotonic_s(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def prepared() -> MemoryRemote:
    remote = MemoryRemote()
    remote.put("object", b"content")
    remote.put("other", b"other")
    remote.make_directory("directory")
    return remote


def retrying(inner: Remote, *faults: Fault, policy: RetryPolicy | None = None) -> tuple[RetryingRemote, Faults]:
    plan = Faults(*faults)
    return RetryingRemote(FaultyRemote(inner, plan), policy, ManualClock(), random.Random(0)), plan


Job = Callable[[Remote], object]


def write_and_sync(remote: Remote) -> None:
    with contextlib.closing(remote.update("object")) as file, contextlib.closing(remote.open("other")) as other:
        file.write_at(0, b"C")
        file.copy_range(other, 0, 7, 5)
        file.truncate(9)
        file.sync()
        buffer = bytearray(file.size())
        assert file.read_into(0, memoryview(buffer)) == 9
        assert buffer == b"Contentot"


IDEMPOTENT: dict[str, Job] = {
    "list": lambda remote: remote.list(""),
    "stat": lambda remote: remote.stat("object"),
    "get": lambda remote: remote.get("object"),
    "usage": lambda remote: remote.usage(),
    "put": lambda remote: remote.put("object", b"new"),
    "put new": lambda remote: remote.put("new", b"new", replace=False),
    "rename": lambda remote: remote.rename("object", "renamed"),
    "rename onto": lambda remote: remote.rename("object", "other", replace=True),
    "delete": lambda remote: remote.delete("object"),
    "remove_directory": lambda remote: remote.remove_directory("directory"),
    "delete_tree": lambda remote: remote.delete_tree("directory"),
    "make_directory": lambda remote: remote.make_directory("a/b"),
    "touch": lambda remote: remote.touch("object"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before the effect", "after the effect"])
@pytest.mark.parametrize("job", IDEMPOTENT)
def test_a_passing_failure_goes_unnoticed(job: str, after: bool) -> None:
    expected, found = prepared(), prepared()
    IDEMPOTENT[job](expected)
    remote, plan = retrying(found, Fault(operation=job.split(maxsplit=1)[0], after=after, times=1 if after else 3))
    IDEMPOTENT[job](remote)
    plan.assert_all_fired()
    assert {entry.name for entry in found.list("")} == {entry.name for entry in expected.list("")}


@pytest.mark.parametrize("after", [False, True], ids=["before the effect", "after the effect"])
@pytest.mark.parametrize("operation", ["open", "update", "write_at", "copy_range", "truncate", "size", "read_into"])
def test_open_files_retry_too(operation: str, after: bool) -> None:
    remote, plan = retrying(prepared(), Fault(operation=operation, after=after, times=2))
    write_and_sync(remote)
    plan.assert_all_fired()


def test_a_failed_sync_is_final() -> None:
    remote, plan = retrying(prepared(), Fault(operation="sync"))
    with pytest.raises(errors.Unavailable):
        write_and_sync(remote)
    assert sum(operation.kind == "sync" for operation in plan.log) == 1


@pytest.mark.parametrize(
    "job",
    [lambda remote: remote.create("new"), lambda remote: remote.make_directory("new.lock", exist_ok=False)],
    ids=["create", "exclusive directory"],
)
def test_what_may_be_somebody_elses_is_not_repeated(job: Job) -> None:
    remote, plan = retrying(prepared(), Fault())
    with pytest.raises(errors.Unavailable):
        job(remote)
    assert plan.operations == 1


def test_an_existing_name_is_ours_only_with_our_content() -> None:
    inner = prepared()
    remote, _ = retrying(inner, Fault(operation="put"))
    with pytest.raises(errors.AlreadyExists):
        remote.put("object", b"new", replace=False)
    assert inner.get("object") == b"content"
    remote, plan = retrying(inner)
    with pytest.raises(errors.AlreadyExists):
        remote.put("object", b"content", replace=False)
    assert plan.operations == 1, "a first refusal is an answer"


def test_a_name_that_never_was_is_still_not_found_after_a_retry() -> None:
    remote, _ = retrying(prepared(), Fault(operation="rename"))
    with pytest.raises(errors.NotFound):
        remote.rename("nothing", "somewhere")
    remote, _ = retrying(prepared())
    with pytest.raises(errors.NotFound):
        remote.delete("nothing")


@pytest.mark.parametrize("error", [errors.NoSpace, errors.ReadOnly, errors.AccessDenied, errors.NotFound])
def test_a_lasting_error_is_raised_at_once(error: Callable[[str, str], errors.RemoteError]) -> None:
    clock = ManualClock()
    plan = Faults(Fault(error=error, times=None))
    with pytest.raises(errors.RemoteError):
        RetryingRemote(FaultyRemote(prepared(), plan), None, clock).get("object")
    assert plan.operations == 1
    assert clock.slept == []


def test_hope_ends() -> None:
    clock = ManualClock()
    plan = Faults(Fault(times=None))
    policy = RetryPolicy(attempts_max=4, first_pause_s=1, pause_max_s=3)
    with pytest.raises(errors.Unavailable) as caught:
        RetryingRemote(FaultyRemote(prepared(), plan), policy, clock).get("object")
    assert plan.operations == 4
    assert "4 attempts" in caught.value.__notes__[0]


@given(
    st.builds(
        RetryPolicy,
        attempts_max=st.integers(1, 20),
        first_pause_s=st.floats(0.001, 10),
        pause_max_s=st.floats(0.001, 60),
        budget_s=st.floats(0, 300),
    ),
    st.integers(0, 1000),
)
def test_no_policy_waits_longer_than_its_budget(policy: RetryPolicy, seed: int) -> None:
    clock = ManualClock()
    attempts = 0

    def failing() -> None:
        nonlocal attempts
        attempts += 1
        raise errors.Unavailable("r", "n", "away", transient=True)

    with pytest.raises(errors.Unavailable):
        Retrier(policy, clock, random.Random(seed)).call(failing)
    assert 1 <= attempts <= policy.attempts_max
    assert sum(clock.slept) <= policy.budget_s
    assert all(pause <= policy.pause_max_s for pause in clock.slept)
