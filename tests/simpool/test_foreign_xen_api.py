"""npm ``xen-api``, the client of Xen Orchestra: connects, watches objects, gets and puts a disk.

It runs as a separate process and is no dependency. Install it once, wherever ``XOBACKUP_TEST_NODE`` points to.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from xobackup.simpool import SimPool
from xotest.programs import need

VERSION = "4.7.6"
SCRIPT = Path(__file__).with_name("foreign_xen_api.mjs")


def module() -> Path:
    """The directory of the package; skips (fails in CI) when it is not installed."""
    home = Path(os.environ.get("XOBACKUP_TEST_NODE", "~/.cache/xobackup-tests")).expanduser()
    found = home / "node_modules" / "xen-api"
    if found.is_dir():
        return found
    advice = f"xen-api is missing: npm install --prefix {home} xen-api@{VERSION}"
    if os.environ.get("CI"):
        pytest.fail(advice)
    pytest.skip(advice)


def test_a_client_of_xen_orchestra_works_as_with_a_real_pool(pool: SimPool) -> None:
    command = [need("node"), str(SCRIPT), str(module()), pool.url, pool.username, pool.password, "guest"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert "error" not in found, found["error"]
    assert found["product"] == "8.3.0" and found["watched"] is True and found["snapshotOf"] is True
    assert {"VM", "VDI", "VBD", "SR", "PBD", "host", "pool", "network", "VIF"} <= set(found["classes"])
    assert found["disks"] == [pool.toolstack.master] * 2
    assert found["exported"] > 3 << 20
    live = pool.vdis_of(pool.vm_named("guest"))[0]
    assert pool.disk_sha256(found["target"]) == pool.disk_sha256(live)
    assert not pool.faults.unfired()
