"""What a run moves: bytes read from the pool for what changed, and bytes written for what did not.

A pool in this process, whose NBD server counts; the command line in another, as installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import Settings
from bench.rows import Row
from bench.whole_run import CONFIG
from vhd.block import BLOCK_BYTES
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec

GRAIN = 64 * 1024
RETENTION = 30
"""More than there are runs: nothing is merged."""
STRIDE = 17 * GRAIN
"""One range in about every megabyte changes."""


def rows(settings: Settings) -> Iterator[Row]:
    directory = settings.directory / "moved"
    (directory / "remote").mkdir(parents=True)
    size = settings.blocks(256) * BLOCK_BYTES
    disk = DiskSpec(name="disk", size_bytes=size, filled_bytes=size // 2)
    spec = PoolSpec(nbd="nbd", vms=(VmSpec(name="bench", disks=(disk,)),))
    with SimPool.start(directory / "pool", spec=spec) as pool:
        config = directory / "xobackup.toml"
        told = {name: getattr(pool, name) for name in ("url", "username", "password")}
        told["fingerprint"] = pool.fingerprint_sha256
        config.write_text(CONFIG.format(directory=directory, retention=RETENTION, **told))
        _run(config)
        yield _changed(pool, config, size)
        yield _unchanged(pool, config, directory / "remote")


def _changed(pool: SimPool, config: Path, size: int) -> Row:
    vdi = pool.vdis_of(pool.vm_named("bench"))[0]
    offsets = range(0, size, STRIDE)
    for offset in offsets:
        pool.write_disk(vdi, offset + 100, b"changed")
    pool.journal.clear()
    told = _run(config)
    moved = sum(entry.args[2] for entry in pool.journal.entries("NBD"))
    changed = len(offsets) * GRAIN
    return Row(
        name="bytes a delta moves / bytes of the 64 KiB ranges that changed",
        ratio=moved / changed,
        goal=1.01,
        better="lower",
        detail=f"{len(offsets)} ranges, {moved} bytes at the pool's NBD server, {told} in the report",
    )


def _unchanged(pool: SimPool, config: Path, remote: Path) -> Row:
    """New and changed files, before anything is merged (a merge changes files in place, which sizes do not show)."""
    before = _files(remote)
    pool.journal.clear()
    _run(config)
    fresh = {name: size for name, (size, stamp) in _files(remote).items() if before.get(name) != (size, stamp)}
    moved = sum(entry.args[2] for entry in pool.journal.entries("NBD"))
    return Row(
        name="written to the remote by a run with nothing changed",
        ratio=sum(fresh.values()) / 1024,
        goal=64,
        better="lower",
        unit="KiB",
        detail=f"{len(fresh)} files, allocated size; {moved} bytes read from the pool's disks",
    )


def _files(directory: Path) -> dict[str, tuple[int, int]]:
    """Allocated size and time of every file."""
    found = ((str(path), path.stat()) for path in directory.rglob("*") if path.is_file())
    return {name: (status.st_blocks * 512, status.st_mtime_ns) for name, status in found}


def _run(config: Path) -> int:
    """Back up; how much was read, by the report."""
    command = [sys.executable, "-m", "bench.child", "cli", "run", "bench", "--config", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"xobackup run: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return sum(int(line["read_bytes"]) for line in lines if line["kind"] == "vm-ended")
