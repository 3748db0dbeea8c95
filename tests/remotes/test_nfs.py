"""NFS as it is: a real server and the kernel's own client, in a guest, since few machines' kernels have one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from xotest.linux_guest import run_in_guest
from xotest.programs import need

HELD = (
    "mounted by its URL",
    "promises of the contract",
    "a backup",
    "a backup and a merge while the server was killed and started again",
    "a merge, the server asked to copy",
    "a stalled server is given up",
    "the merge goes on when it answers again",
    "each copied by the server",
    "a server that squashes root is told",
    "a full server is told",
    "unmounted when nobody needs it any more",
)


@pytest.mark.waits
@pytest.mark.timeout(380)
def test_backups_and_merges_survive_a_server_that_stalls_dies_and_is_full(tmp_path: Path) -> None:
    need("ganesha.nfsd"), need("mount.nfs")
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ["PATH"], "HOME": "/root"}
    ended = run_in_guest([sys.executable, "-m", "xotest.nfs_guest"], share=tmp_path, environment=environment)
    assert ended.status == 0, f"{ended.output}\n{ended.console if ended.status is None else ''}"
    for claim in HELD:
        assert any(line.startswith("held: ") and claim in line for line in ended.output.splitlines()), claim
