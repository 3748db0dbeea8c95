"""Real and emulated stores keep every promise of the contract; a careless one is found out."""

from __future__ import annotations

import pytest

from remotes.conformance import PROMISES, Check, Promise, run_conformance
from remotes.url import open_remote
from xotest.s3.stores import Store

CANNOT = {
    "directories are made and removed",
    "files and directories are told apart",
    "a directory is renamed with its content",
    "free space is known",
    "a file is created once",
    "random writes and truncates are kept",
    "aligned blocks and small writes mix",
    "a range is copied",
    "a file may be larger than 4 gib",
    "an open file survives its rename",
    "closed and read only files refuse",
    "one of several gets a lock",
    "several write one file",
    "a file is written and read at some speed",
}


def checks_of(store: Store) -> dict[str, Check]:
    remote = open_remote(store.url(store.bucket(), "dir/of mine"))
    checks = {check.name: check for check in run_conformance(remote)}
    assert remote.list(".xobackup")[0].name == "s3.json", "only what was found out is left"
    remote.close()
    return checks


@pytest.fixture(scope="module")
def checks(s3_store: Store) -> dict[str, Check]:
    return checks_of(s3_store)


@pytest.mark.slow
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name.replace(" ", "-"))
def test_it_keeps_its_promise(checks: dict[str, Check], promise: Promise) -> None:
    check = checks[promise.name]
    assert check.ok, check.detail
    assert check.skipped == (promise.name in CANNOT), check.detail


def test_a_careless_store_keeps_the_rest(rclone_store: Store) -> None:
    checks = checks_of(rclone_store)
    assert [check for check in checks.values() if not check.ok] == []
    assert {name for name, check in checks.items() if check.skipped} == CANNOT | {"one of several puts a new name"}
