"""``xobackup replicas``, and replication from the command line: plan, run, list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.simpool import SimPool
from xotest.site import SMALL, xobackup
from xotest.two_pools import TARGET_POOL


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    with (
        SimPool.start(tmp_path / "pool", spec=SMALL) as pool,
        SimPool.start(tmp_path / "other", spec=TARGET_POOL) as other,
    ):
        path = tmp_path / "xobackup.toml"
        text = f'state_directory = "{tmp_path / "state"}"\n'
        for name, one in (("main", pool), ("second", other)):
            text += f'[pools.{name}]\nurl = "{one.url}"\npassword = "{one.password}"\n'
            text += f'tls.ca = "{one.ca_pem_path}"\n'
        text += f"""
[remotes.nas]
url = "file://{tmp_path / "repository"}"
[targets.dr]
pool = "second"
srs = ["dr ssd", "dr hdd"]
[jobs.dr]
pool = "main"
remotes = ["nas"]
replicate_to = ["dr"]
vms.include = [{{ name = "web" }}]
retention = 2
"""
        (tmp_path / "repository").mkdir()
        path.write_text(text)
        yield path


def test_from_plan_to_list(config: Path) -> None:
    planned = xobackup("plan", "-c", config, "--json").of("plan")[0]
    routes = planned["vms"][0]["disks"][0]["routes"]
    assert [route["remotes"] for route in routes] == [["nas", "dr:dr ssd", "dr:dr hdd"]]
    assert "no replicas" in xobackup("replicas", "-c", config).out
    for _ in range(3):
        done = xobackup("run", "-c", config, "--json")
        assert done.code == 0, done.err
    assert set(done.of("report")[0]["vms"][0]["points"]) == {"nas", "dr:dr ssd", "dr:dr hdd"}
    planned = xobackup("plan", "-c", config, "--json").of("plan")[0]
    assert {route["mode"] for disk in planned["vms"][0]["disks"] for route in disk["routes"]} == {"delta"}
    found = xobackup("replicas", "-c", config, "--json").of("replica")
    assert [(one["sr"], one["job"], len(one["points"]), one["state"]) for one in found] == [
        ("dr ssd", "dr", 2, "ready"),
        ("dr hdd", "dr", 2, "ready"),
    ]
    assert 0 <= found[0]["lag_s"] < 600
    shown = xobackup("replicas", "-c", config, "--points")
    assert shown.code == 0 and "web [dr replica]" in shown.out and found[0]["points"][1]["id"] in shown.out


def test_what_cannot_be(config: Path) -> None:
    assert "no target 'x'" in xobackup("replicas", "-c", config, "-t", "x").err
    text = config.read_text()
    config.write_text(text.replace('["dr ssd", "dr hdd"]', '["no such"]'))
    refused = xobackup("run", "-c", config)
    assert refused.code != 0 and "SR 'no such': no such in this pool" in refused.err
    for old, new, told in (
        ('replicate_to = ["dr"]', 'replicate_to = ["dx"]', "there is no target 'dx'"),
        ('pool = "second"', 'pool = "third"', "there is no pool 'third'"),
        ("srs =", 'sr = "a"\nsrs =', "expected sr, or several of them in srs"),
        ("retention = 2", "distribute = true", "distribute"),
    ):
        config.write_text(text.replace(old, new))
        assert told in xobackup("config", "check", "-c", config).err
