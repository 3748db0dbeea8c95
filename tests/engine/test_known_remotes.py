"""A lost mount is not a new remote: runs refuse what is not the repository they know."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from remotes.local import LocalRemote
from xobackup.engine.errors import Outcome
from xobackup.engine.known_remotes import Known, forget, judge, known_path, read_known
from xobackup.engine.run import plan_job
from xobackup.repository.identity import NAME, Identity
from xotest.lab import Lab

KNOWN = Known(id="a", since="then", url="file:///mnt/nas")


@pytest.mark.parametrize(
    ("known", "found", "has_backups", "told"),
    [
        (None, None, False, ""),
        (None, "b", False, ""),
        (KNOWN, "a", False, ""),
        (KNOWN, "b", False, "expected repository a, found another one, b"),
        (KNOWN, None, False, "expected repository a (since then), found none at all"),
        (KNOWN, None, True, ""),
    ],
)
def test_what_speaks_against_a_remote(known: Known | None, found: str | None, has_backups: bool, told: str) -> None:
    identity = Identity(id=found, since="then") if found else None
    assert judge(known, identity, url="file:///mnt/nas", has_backups=has_backups) == told


def test_another_url_is_another_remote() -> None:
    assert judge(KNOWN, Identity(id="b", since=""), url="file:///mnt/new", has_backups=False) == ""


def lose_mount(lab: Lab, path: Path) -> Path:
    """The share goes away; below it lies an empty directory."""
    lab.remotes["nas"].close()
    aside = path.with_name("aside")
    path.rename(aside)
    path.mkdir()
    lab.remotes["nas"] = LocalRemote(path)
    return aside


def bring_back(lab: Lab, path: Path, aside: Path) -> None:
    lab.remotes["nas"].close()
    shutil.rmtree(path)
    aside.rename(path)
    lab.remotes["nas"] = LocalRemote(path)


def test_a_run_onto_a_lost_mount_writes_nothing_and_says_so(lab: Lab) -> None:
    path = lab.on_disk()
    assert lab.run().outcome is Outcome.OK
    aside = lose_mount(lab, path)
    report = lab.run(expect=Outcome.FAILED)
    assert "found none at all" in report.problems[0] and list(path.iterdir()) == []
    assert "found none at all" in plan_job(lab.job(), lab.world()).problems[0] and list(path.iterdir()) == []
    bring_back(lab, path, aside)
    assert lab.run().vms[0].deltas == 2
    lab.check()


def test_another_repository_in_its_place_is_refused_until_it_is_accepted(lab: Lab) -> None:
    path = lab.on_disk()
    lab.run()
    lose_mount(lab, path)
    known = known_path(lab.world().state_directory, "nas")
    was = forget(known)
    assert was is not None and read_known(known) is None and forget(known) is None
    assert lab.run().outcome is Outcome.OK
    new = read_known(known)
    assert new is not None and new.id != was.id


def test_a_remote_that_lost_its_private_state_but_not_its_backups_is_itself_again(lab: Lab) -> None:
    path = lab.on_disk()
    lab.run()
    before = read_known(known_path(lab.world().state_directory, "nas"))
    shutil.rmtree(path / ".xobackup")
    assert lab.run().outcome is Outcome.OK
    assert read_known(known_path(lab.world().state_directory, "nas")) == before
    assert before is not None and before.id in (path / NAME).read_text()


def test_a_torn_memory_is_none(lab: Lab) -> None:
    lab.on_disk()
    lab.run()
    known_path(lab.world().state_directory, "nas").write_text('{"id": "torn')
    assert lab.run().outcome is Outcome.OK
    assert read_known(known_path(lab.world().state_directory, "nas")) is not None
