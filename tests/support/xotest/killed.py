"""Runs of the engine in a process of their own, which signals itself at a planned change of the repository on disk.

The ten seconds after which a dead holder's lock is stale are not waited for: its time is set back instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from xotest.lab import Lab


def run_child(
    lab: Lab, *, number: int, at: int, operation: str = "*", name: str = "*", **more: object
) -> subprocess.CompletedProcess[str]:
    """One run in a process of its own; remembers what a point it published must give back.

    ``more``: of the job: ``vms`` (a pattern of names), ``consistent``, ``hooks`` (pairs of moment and command).
    """
    plan = {
        "url": lab.pool.url,
        "username": lab.pool.username,
        "password": lab.pool.password,
        "ca": str(lab.pool.ca_pem_path),
        "repository": str(lab.directory / "repository"),
        "state": str(lab.directory / "state"),
        "directories": lab.vhd_directory,
        "retention": lab.settings.retention,
        "mode": lab.settings.mode,
        "offline_backup": lab.settings.offline_backup,
        "signal": int(number),
        "at": at,
        "operation": operation,
        "name": name,
        **more,
    }
    path = lab.directory / "plan.json"
    path.write_text(json.dumps(plan))
    lab.pool.gc()
    known = {point.id for point in lab.points()}
    images = {uuid: lab.pool.disk_sha256(ref) for uuid, ref in lab.disks().items()}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "xotest.run_child", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    for point in lab.points():
        if point.id not in known:
            lab.expected["nas", point.id] = images
    lab.clock.advance(max(0.0, newest_s(lab) - lab.clock.now_s()))
    return done


def newest_s(lab: Lab) -> float:
    return max((point.timestamp_ms for point in lab.points()), default=0) / 1000 + 1


def let_the_lock_go_stale(lab: Lab) -> None:
    for lock in (lab.directory / "repository" / "xo-vm-backups").glob("*.lock"):
        past = lock.stat().st_mtime - 60
        os.utime(lock, (past, past))
