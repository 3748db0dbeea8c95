"""Where places are reached from, and the engine that needs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xobackup.cli.engine_store import fingerprint_of, reach_of
from xobackup.cli.jobs import job_of
from xobackup.config.errors import ConfigError
from xobackup.config.load import load_configuration

TEXT = """
state_directory = "/tmp/state"
[engine]
database = "postgresql://xobackup@db/xobackup"
[pools.paris]
url = "10.0.0.1"
password = "secret"
sites = ["paris"]
[pools.lyon]
url = "10.1.0.1"
password = "secret"
[remotes.nas]
url = "file:///mnt/nas"
sites = ["paris", "lyon"]
[targets.dr]
pool = "paris"
sr = "local"
sites = ["lyon", "paris"]
[jobs.nightly]
pool = "paris"
remotes = ["nas"]
vms.include = [{ tag = "prod" }]
"""


def load(directory: Path, *replaced: str):
    path = directory / "xobackup.toml"
    path.write_text(TEXT.replace(*replaced) if replaced else TEXT)
    return load_configuration(path)


def test_what_a_worker_reaches_and_when_two_jobs_mean_the_same(tmp_path: Path) -> None:
    configuration = load(tmp_path)
    assert reach_of(configuration, "lyon") == {"pools": ["lyon"], "remotes": ["nas"], "targets": []}
    assert reach_of(configuration, "paris")["targets"] == ["dr"] and reach_of(configuration, "")["remotes"] == []
    same = fingerprint_of(load(tmp_path, '"secret"', '"another"'))("nightly")
    assert fingerprint_of(configuration)("nightly") == same
    other = fingerprint_of(load(tmp_path, 'remotes = ["nas"]', 'remotes = ["nas"]\nretention = 3'))
    assert other("nightly") != same


def test_a_machine_needs_no_secrets_of_places_that_it_leaves_to_workers(tmp_path: Path) -> None:
    key = 'encryption = { key = { file = "/nowhere/nas.key" } }'
    far = load(tmp_path, 'sites = ["paris", "lyon"]', f'sites = ["paris", "lyon"]\n{key}')
    assert job_of(far, "nightly").remotes[0].storage.encryption is None
    near = far.model_copy(update={"engine": far.engine.model_copy(update={"site": "lyon"})})
    with pytest.raises(ConfigError, match=r"nas\.key"):
        job_of(near, "nightly")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('sites = ["paris", "lyon"]', 'sites = ["lyon"]', "no site reaches all it needs"),
        ('sites = ["paris", "lyon"]', 'sites = ["a site"]', "expected a name of letters"),
        ("postgresql://", "mysql://", "expected postgresql://"),
        ('database = "postgresql://xobackup@db/xobackup"', 'password = "x"', "only for a postgresql:// database"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, old, new)
