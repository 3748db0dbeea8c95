"""Schedules that control nodes share, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from xotest.site import Site, end_all, start, wait_until, xobackup

SHARED = """
[schedules.yearly]
jobs = ["nightly"]
cron = "0 3 1 1 *"
[web]
listen = ""
[engine]
database = "sqlite:///{directory}/engine.db"
schedules = "shared"
lease = "15s"
"""


def another(site: Site, directory: Path) -> Path:
    """The configuration of another machine."""
    path = directory / "other.toml"
    path.write_text(site.config.read_text().replace(str(site.state), str(directory / "other-state"), 1))
    return path


def test_pausing_and_asking_reach_every_node(site: Site, tmp_path: Path) -> None:
    site.configure()
    site.config.write_text(site.config.read_text() + SHARED.format(directory=tmp_path))
    other = another(site, tmp_path)
    site.xobackup("schedules", "pause", "yearly", "--reason", "the array moves")
    (row,) = xobackup("schedules", "list", "--json", "--config", other).of("schedule")
    assert row["paused"] == "the array moves" and row["runs_on"] is None
    assert not (site.state / "paused.json").exists()
    assert xobackup("schedules", "resume", "--config", other).code == 0
    assert site.xobackup("schedules", "list", "--json").of("schedule")[0]["paused"] is None

    try:
        nodes = [site.start("serve"), start("serve", "--config", other)]

        def listed() -> list[dict[str, object]]:
            return [one for one in site.xobackup("workers", "--json").of("node") if one["alive"]]

        wait_until(lambda: len(listed()) == 2)
        shown = site.xobackup("workers").out
        assert "2 control nodes with shared schedules" in shown and f"({nodes[0].pid})" in shown
        for node in nodes:
            node.terminate()
            node.communicate(timeout=60)
            assert node.returncode == 0
        assert listed() == []
    finally:
        end_all()


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ('schedules = "shared"', "needs the database of the engine"),
        ('database = "sqlite:////e.db"\nschedules = "shared"\nlease = "5s"', "expected 15 s or more, found 5s"),
        ('database = "sqlite:////e.db"\nschedules = "both"', "schedules"),
    ],
)
def test_what_cannot_be_shared_is_refused(site: Site, engine: str, told: str) -> None:
    site.configure()
    site.config.write_text(f"{site.config.read_text()}[engine]\n{engine}\n")
    assert told in site.xobackup("schedules", "list", code=2).err
