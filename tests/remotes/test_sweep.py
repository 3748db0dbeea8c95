"""The sweep finds what it is there to find, and passes what is right."""

from __future__ import annotations

import contextlib

import pytest

from remotes import errors
from remotes.contract import Remote
from remotes.memory import MemoryRemote
from xotest.sweep import sweep, sweep_errors

OLD = b"old" * 3000
NEW = b"new" * 3000


def build() -> MemoryRemote:
    remote = MemoryRemote()
    remote.put("dir/state", OLD)
    return remote


def whole(remote: Remote) -> None:
    assert remote.get("dir/state") in (OLD, NEW)


def new(remote: Remote) -> None:
    assert remote.get("dir/state") == NEW


def replace_rightly(remote: Remote) -> None:
    remote.delete("dir/next", missing_ok=True)
    with contextlib.closing(remote.create("dir/next")) as file:
        file.write_at(0, NEW[:5000])
        file.write_at(5000, NEW[5000:])
        file.sync()
    remote.rename("dir/next", "dir/state", replace=True)


def replace_without_sync(remote: Remote) -> None:
    remote.delete("dir/next", missing_ok=True)
    with contextlib.closing(remote.create("dir/next")) as file:
        file.write_at(0, NEW)
    remote.rename("dir/next", "dir/state", replace=True)
    remote.put("dir/done", b"")


def replace_by_deleting_first(remote: Remote) -> None:
    remote.delete("dir/state", missing_ok=True)
    remote.put("dir/state", NEW)


def swallow_everything(remote: Remote) -> None:
    try:
        remote.put("dir/state", NEW)
    except BaseException:  # noqa: BLE001 - the mistake under test
        return


def test_a_durable_replacement_survives_every_cut() -> None:
    # delete is a change even if nothing was there; write_at is cut twice, before and during
    assert sweep(build, replace_rightly, whole, new, survivors=20) == 6 + 3


def test_a_missing_sync_is_found() -> None:
    with pytest.raises(AssertionError) as caught:
        sweep(build, replace_without_sync, whole, new, survivors=20)
    assert "XOTEST_SEED" in "".join(caught.value.__notes__)


def test_a_window_without_the_name_is_found() -> None:
    with pytest.raises(errors.NotFound):
        sweep(build, replace_by_deleting_first, whole, new)


def test_a_job_that_goes_on_living_is_found() -> None:
    with pytest.raises(AssertionError, match="swallowed"):
        sweep(build, swallow_everything, whole)


def test_a_job_that_changes_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="no change"):
        sweep(build, lambda remote: remote.list("dir"), whole)


@pytest.mark.parametrize("lasting", [False, True])
def test_errors_are_swept_too(lasting: bool) -> None:
    assert sweep_errors(build, replace_rightly, whole, new, lasting=lasting) == 6
    with pytest.raises(errors.NotFound):
        sweep_errors(build, replace_by_deleting_first, whole, new, lasting=lasting)


def test_errors_of_reading_are_swept_when_asked() -> None:
    def run(remote: Remote) -> None:
        remote.list("dir")
        remote.get("dir/state")
        remote.put("dir/state", NEW)

    assert sweep_errors(build, run, whole, new, error=errors.AccessDenied, changes_only=False) == 3
