"""A run of the command line against a simulated pool: one VM of four 200 GiB disks; then a delta and a merge."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Settings, peak_mib
from bench.rows import Row

CONFIG = """
state_directory = "{directory}/state"
[pools.bench]
url = "{url}"
username = "{username}"
password = "{password}"
tls = {{ fingerprint = "{fingerprint}" }}
[remotes.here]
url = "file://{directory}/remote"
[jobs.bench]
pool = "bench"
remotes = ["here"]
vms.include = [{{ name = "bench" }}]
retention = {retention}
"""


def rows(settings: Settings) -> Iterator[Row]:
    filled = settings.blocks(128)
    (settings.directory / "remote").mkdir()
    with pool(settings.directory / "pool", filled) as told:
        config = settings.directory / "xobackup.toml"
        config.write_text(CONFIG.format(directory=settings.directory, retention=1, **told))
        full = peak_mib("cli", "run", "bench", "--config", config)
        delta = peak_mib("cli", "run", "bench", "--config", config)
    for name, peak in (("first", full), ("second, with merge", delta)):
        yield Row(
            name=f"peak memory of a run of four 200 GiB disks ({name})",
            ratio=peak,
            goal=300,
            better="lower",
            unit="MiB",
            detail=f"{4 * filled * 2} MiB filled",
        )


@contextlib.contextmanager
def pool(directory: Path, filled_blocks: int) -> Iterator[dict[str, str]]:
    """A simulated pool in a process of its own, whose guests write."""
    command = [sys.executable, "-m", "bench.child", "pool", str(directory), str(filled_blocks)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)
