"""A merge that is killed: a real process, a real SIGKILL, after a number of blocks of a real merge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from xobackup.cli import repositories

if TYPE_CHECKING:
    from xobackup.repository.merging import MergeProgress

TIMEOUT_S = 120
URL_VARIABLE = "XOBACKUP_DEMO_URL"


def merge_and_die(url: str, vm: str, blocks: int) -> None:
    """Merge what there is to merge of ``vm``; die by SIGKILL once ``blocks`` blocks of one merge are done."""

    from xobackup.engine.job import RemoteTarget

    def told(progress: MergeProgress) -> None:
        if progress.blocks_done >= blocks:
            os.kill(os.getpid(), signal.SIGKILL)

    target = RemoteTarget(name=url, url=url)
    with repositories.opened(target) as repository, repository.lock(vm, purpose="demo") as directory:
        directory.merge(told)


def kill_a_merge(url: str, vm: str, blocks: int) -> str:
    """Run :func:`merge_and_die` in a process of its own; what went otherwise than planned, else nothing."""
    command = [sys.executable, "-m", "xobackup", "demo-merge-and-die", vm, str(blocks)]
    environment = {**os.environ, URL_VARIABLE: url}  # it may hold a secret, and everybody sees the command
    done = subprocess.run(command, check=False, timeout=TIMEOUT_S, capture_output=True, env=environment)
    if done.returncode == -signal.SIGKILL:
        return ""
    return (
        f"expected it to be killed, it ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
    )
