"""What is run in a process of its own to see how much memory it takes: ``python -m bench.child TASK ARGUMENTS``."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.measure import own_peak_kib


def merge(directory: str) -> None:
    from remotes.local import LocalRemote
    from vhd.merge.run import apply_merge
    from xobackup.repository.codecs import CODECS
    from xobackup.repository.workspace import RemoteWorkspace

    apply_merge(RemoteWorkspace(LocalRemote(directory), ""), ("1.vhd", "2.vhd"), CODECS)


def chain(directory: str, tip: str) -> None:
    from bench.chain import stream

    stream(Path(directory), tip)


TASKS = {"merge": merge, "chain": chain}

if __name__ == "__main__":
    TASKS[sys.argv[1]](*sys.argv[2:])
    print(own_peak_kib())
