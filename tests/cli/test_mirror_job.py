"""``mode = "mirror"``: a job like any other, for ``plan``, ``run``, schedules and the history."""

from __future__ import annotations

from pathlib import Path

import pytest

from xotest.site import Site

MIRROR = """
[remotes.offsite]
url = "file://{other}"
[jobs.copies]
mode = "mirror"
source = "nas"
remotes = ["offsite"]
retention = 1
"""


@pytest.fixture
def mirrored(copied: Site) -> Site:
    copied.other.mkdir()
    copied.config.write_text(copied.config.read_text() + MIRROR.format(other=copied.other))
    return copied


def test_planned_and_run(mirrored: Site) -> None:
    plan = mirrored.xobackup("plan", "copies")
    assert "2 restore points to copy from nas" in plan.out and "the target keeps the newest 1" in plan.out
    assert mirrored.xobackup("plan", "copies", "--json").of("mirror-plan")[0]["remote"] == "offsite"
    done = mirrored.xobackup("run", "copies")
    assert "job copies: ok" in done.out
    names = {vm["name"] for vm in mirrored.xobackup("backups", "list", "--remote", "offsite", "--json").of("vm")}
    assert names == {"web", "db"}
    mirrored.xobackup("verify", "--remote", "offsite")
    assert "copies" in mirrored.xobackup("history", "list").out
    assert mirrored.xobackup("config", "check", "--json").of("job")[-1]["mode"] == "mirror"


def test_the_plan_tells_the_link_that_copies_cross(mirrored: Site) -> None:
    links = '[engine]\nsite = "paris"\n[links.paris-lyon]\nbetween = ["paris", "lyon"]\nrate = "50 MiB/s"\n'
    text = mirrored.config.read_text().replace("[remotes.offsite]", '[remotes.offsite]\nsites = ["lyon"]')
    mirrored.config.write_text(text + links)
    told = "through link paris-lyon to offsite: 50 MiB/s shared"
    assert told in mirrored.xobackup("plan", "copies").out
    (limits,) = mirrored.xobackup("plan", "copies", "--json").of("mirror-limits")
    assert (limits["job"], limits["limits"]) == ("copies", [told])
    assert "through link" not in mirrored.xobackup("plan", "nightly").out


def test_narrowed_to_one_vm(mirrored: Site) -> None:
    mirrored.xobackup("run", "copies", "--vm", "web")
    vms = mirrored.xobackup("backups", "list", "--remote", "offsite", "--json").of("vm")
    assert [vm["name"] for vm in vms] == ["web"]


def test_scheduled(mirrored: Site) -> None:
    text = mirrored.config.read_text()
    mirrored.config.write_text(text + '[schedules.s]\njobs = ["copies"]\nevery = "1d"\nretention = 2\n')
    assert mirrored.xobackup("schedules", "list", "--json").of("schedule")[0]["jobs"] == ["copies"]


@pytest.mark.parametrize(("old", "new", "told"), [
    ('source = "nas"', 'source = "offsite"', "is one of its remotes"),
    ('source = "nas"', 'source = "nowhere"', "there is no remote 'nowhere'"),
    ('remotes = ["offsite"]', "remotes = []", "at least 1"),
    ("retention = 1", "keep.daily = 3", "keep: only with retention"),
    ("retention = 1", 'pool = "sim"', "there is no such key"),
])  # fmt: skip
def test_what_cannot_work_is_refused(mirrored: Site, old: str, new: str, told: str) -> None:
    mirrored.config.write_text(mirrored.config.read_text().replace(old, new))
    assert told in mirrored.xobackup("config", "check", code=2).err


def test_a_target_that_is_gone(mirrored: Site, tmp_path: Path) -> None:
    mirrored.other.rmdir()
    mirrored.config.write_text(mirrored.config.read_text().replace("[jobs.copies]", "[jobs.copies]\nverify = true"))
    result = mirrored.xobackup("run", "copies", code=6)
    assert "offsite" in result.err
