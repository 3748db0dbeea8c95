"""``python -m bench [GROUP...]``: every row, or those of some groups.

Environment: ``QUICK=1`` an eighth of the data and three runs, to see that it works (what does not grow with the data
weighs too much then for the goals to mean anything); ``JSON=1`` one object a line as soon as it is known;
``RUNS=N``; ``BENCH_DIR`` the scratch directory (default ``.bench`` here; up to 15 GB in a directory of its own);
``STRICT=1`` ends with 1 when a goal is missed.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import (
    chain,
    differential,
    history,
    ingest,
    merge,
    nbd,
    probe,
    relay,
    replication,
    restore,
    s3,
    shared,
    sharing,
    whole_run,
    workers,
)
from bench.measure import Settings, emptied, say
from bench.rows import Row, as_json, as_table

GROUPS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "merge": merge.rows,
    "shared": shared.rows,
    "chain": chain.rows,
    "restore": restore.rows,
    "ingest": ingest.rows,
    "nbd": nbd.rows,
    "probe": probe.rows,
    "s3": s3.rows,
    "run": whole_run.rows,
    "replication": replication.rows,
    "differential": differential.rows,
    "history": history.rows,
    "workers": workers.rows,
    "sharing": sharing.rows,
    "relay": relay.rows,
}


def main(arguments: list[str]) -> int:
    unknown = sorted(set(arguments) - set(GROUPS))
    if unknown:
        say(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
        return 2
    quick = bool(os.environ.get("QUICK"))
    settings = Settings(
        directory=Path(os.environ.get("BENCH_DIR") or ".bench").absolute() / f"scratch-{os.getpid()}",
        quick=quick,
        runs=int(os.environ.get("RUNS") or (3 if quick else 5)),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that disks, servers and mounts are cleaned up
    found: list[Row] = []
    try:
        for name in arguments or GROUPS:
            say(f"{name}:")
            for row in GROUPS[name](Settings(directory=emptied(settings.directory), quick=quick, runs=settings.runs)):
                found.append(row)
                if os.environ.get("JSON"):
                    print(as_json(row), flush=True)
    finally:
        shutil.rmtree(settings.directory, ignore_errors=True)
    if not os.environ.get("JSON"):
        print(f"{machine()}; medians of {settings.runs} interleaved runs{', quick' if quick else ''}\n")
        print(as_table(found))
    missed = [row.name for row in found if row.met is False]
    say(f"missed: {', '.join(missed)}" if missed else "every goal met")
    return 1 if missed and os.environ.get("STRICT") else 0


def machine() -> str:
    cpus = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return f"{platform.system()} {platform.release()}, {cpus} CPUs, {memory} GiB, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
