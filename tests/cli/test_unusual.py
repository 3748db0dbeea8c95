"""``xobackup status``: schedules that sleep; what commands and the service found out about backups."""

from __future__ import annotations

import json

from xobackup.cli.logs import Lines
from xobackup.cli.options import read_configuration
from xobackup.cli.serving.survey import Surveyor
from xobackup.cli.serving.works import Works
from xobackup.cli.unusual import delta_jobs
from xotest.site import Site

SCHEDULES = """
[schedules.asleep]
jobs = ["nightly"]
cron = "0 3 * * *"
[schedules.never]
jobs = ["nightly"]
cron = "0 3 * * *"
exclude = ["2020-01-01..2029-12-31"]
[schedules.follower]
jobs = ["nightly"]
after = "never"
[schedules.off]
jobs = ["nightly"]
cron = "0 3 29 2 mon"
enabled = false
"""


def test_schedules_that_do_not_start(copied: Site) -> None:
    copied.config.write_text(copied.config.read_text() + SCHEDULES)
    copied.state.mkdir(exist_ok=True)
    settled = {"settled": {"asleep": "2026-01-01T03:00:00+00:00"}, "running": {}}
    (copied.state / "schedules.json").write_text(json.dumps(settled))
    told = {one["about"]: one for one in copied.xobackup("status", "--json", code=3).of("anomaly")}
    assert set(told) == {"schedule asleep", "schedule never"}, "of those that say the same one is named"
    assert "100 starts of its calendar came to nothing" in told["schedule asleep"]["text"]
    assert told["schedule never"]["names"] == ["schedule never", "schedule follower"]
    (copied.state / "schedules.json").write_text("damaged")
    left = [one["about"] for one in copied.xobackup("status", "--json", code=3).of("anomaly")]
    assert left == ["schedule never"], "nothing is known of the other one"


def test_jobs_that_are_meant_to_read_everything_are_not_unusual(copied: Site) -> None:
    assert delta_jobs(read_configuration(copied.config)) == {"nightly"}
    copied.configure("full_interval = 1")
    assert delta_jobs(read_configuration(copied.config)) == set()
    copied.configure()
    every = '[schedules.s]\njobs = ["nightly"]\nevery = "1d"\nfull = true\n'
    copied.config.write_text(copied.config.read_text() + every)
    assert delta_jobs(read_configuration(copied.config)) == set()


def test_a_digest_knows_what_the_service_saw_in_the_remotes(copied: Site) -> None:
    surveyor = Surveyor(Works(copied.config, read_configuration(copied.config), Lines()))
    copied.xobackup("verify", "--vm", "web")
    points = sorted((copied.repository / "xo-vm-backups" / copied.uuid("db")).glob("2*.json"))
    points[0].unlink()  # as another program's retention may leave it
    surveyor.look_at_remote("nas")
    digest = copied.xobackup("notify", "digest", "--print").out
    assert "of its blocks verified within 30 days, 1 to be merged or deleted" in digest


def test_a_chain_that_is_broken_is_damage_that_a_merge_finds(copied: Site) -> None:
    copied.vdi_paths("db")[0].unlink()
    sorted((copied.repository / "xo-vm-backups" / copied.uuid("db")).glob("2*.json"))[-1].unlink()
    copied.xobackup("merge", "--vm", "db")
    (run,) = copied.xobackup("history", "list", "--json").of("run")
    assert (run["verb"], run["outcome"], run["job"]) == ("merge", "damage", "")
    shown = copied.xobackup("history", "show", run["run_id"][:8]).out
    assert shown.startswith("merge on ") and "db: the chain of" in shown and "xobackup repair" in shown
