"""Where places are reached from, and the engine that needs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xobackup.cli.engine_store import fingerprint_of, reach_of
from xobackup.cli.jobs import job_of
from xobackup.cli.limits import links_of
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


def test_links_are_seen_from_the_machine_s_own_site(tmp_path: Path) -> None:
    link = '[links.line]\nbetween = ["paris", "lyon"]\nrate = "50 MB/s"\ntransfers_max = 2\n'
    window = 'bandwidth = [{ from = "22:00", to = "06:00", rate = "1 Gbit/s" }]\ntimezone = "Europe/Paris"\n'
    configuration = load(tmp_path, "[pools.paris]", f"{link}{window}[pools.paris]")
    assert links_of(configuration).to("pool:paris") is None, "the machine names no site"
    lyon = configuration.model_copy(update={"engine": configuration.engine.model_copy(update={"site": "lyon"})})
    line = links_of(lyon).to("pool:paris")
    assert line is not None and line.transfers_max == 2 and line.bandwidth.rate_bytes_s == 50e6
    assert line.bandwidth.windows[0].rate_bytes_s == 125e6 and line.bandwidth.zone == "Europe/Paris"
    assert links_of(lyon).to("nas") is None


BETWEEN = '[links.a]\nbetween = ["paris", "lyon"]\n'
LINKS = {
    '[links.a]\nbetween = ["paris"]\nrate = "1 MB/s"': "links.a.between: expected two different sites, found paris",
    '[links.a]\nbetween = ["paris", "paris"]\nrate = "1 MB/s"': "expected two different sites",
    '[links.a]\nbetween = ["paris", "a b"]\nrate = "1 MB/s"': "expected a name of letters",
    '[links."a b"]\nbetween = ["paris", "lyon"]\nrate = "1 MB/s"': "expected a name of letters",
    BETWEEN: "expected a limit: rate, bandwidth or transfers_max",
    BETWEEN + 'rate = "fast"': 'expected a rate such as "50 MB/s" or "400 Mbit/s"',
    BETWEEN + 'rate = "0 MB/s"': "expected a rate such as",
    BETWEEN + 'rate = "9999999 GB/s"': "expected a rate such as",
    BETWEEN + 'bandwidth = [{ from = "1:00", to = "02:00", mib_s = 5 }]': "a time such as 08:00",
    BETWEEN + 'bandwidth = [{ from = "01:00", to = "02:00" }]': "one of mib_s and rate",
    BETWEEN + 'speed = "1 MB/s"': "there is no such key",
    BETWEEN + 'rate = "1 MB/s"\n[links.b]\nbetween = ["lyon", "paris"]\ntransfers_max = 1': (
        "links.b: link 'a' is between lyon and paris already"
    ),
}


@pytest.mark.parametrize("text", LINKS)
def test_links_that_make_no_sense_are_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(LINKS[text])):
        load(tmp_path, "[pools.paris]", f"{text}\n[pools.paris]")


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
