"""Times of variants, interleaved; memory of a child process; files warm or cold.

Only ratios inside one run mean anything: absolute figures drift with the machine's neighbours. So the variants take
turns, the order alternates, and the median counts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where, how big, how often."""

    directory: Path
    quick: bool
    runs: int

    def blocks(self, count: int) -> int:
        """A number of blocks, an eighth of it when quick."""
        return max(8, count // 8) if self.quick else count


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """``prepare`` is not timed."""

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def interleave(variants: Sequence[Variant], runs: int) -> dict[str, float]:
    """Median seconds of each variant."""
    times: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for turn in range(runs):
        for variant in variants if turn % 2 == 0 else variants[::-1]:
            variant.prepare()
            before = time.perf_counter()
            variant.run()
            times[variant.name].append(time.perf_counter() - before)
    say("  " + ", ".join(f"{name} {' '.join(f'{t:.2f}' for t in sorted(found))}" for name, found in times.items()))
    return {name: statistics.median(found) for name, found in times.items()}


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


def seconds(times: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {time_s:.2f} s" for name, time_s in times.items())


def cold(*paths: Path) -> None:
    """Written back and out of the page cache. Not drop_caches: that would measure the machine's other files too."""
    for path in paths:
        with opened(path, os.O_RDONLY) as fd:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def warm(*paths: Path) -> None:
    """Written back, and read just now: idle page cache may be gone in a moment."""
    buffer = bytearray(PIECE)
    for path in paths:
        with opened(path, os.O_RDONLY) as fd:
            os.fsync(fd)
            while os.readv(fd, [buffer]):
                pass


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    with opened(path, os.O_RDWR) as fd:
        os.fsync(fd)


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def call(*arguments: str | Path) -> None:
    """Run a tool; its output is shown only when it fails."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, check=False, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr.strip() or done.stdout.strip()}")


def peak_mib(task: str, *arguments: str | Path) -> float:
    """Peak resident memory of ``bench.child TASK ARGUMENTS`` in a fresh interpreter.

    The child reads its own VmHWM: ru_maxrss of a child would start from the memory of this process.
    """
    command = [sys.executable, "-m", "bench.child", task, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise RuntimeError(f"bench.child {task}: {done.stderr.strip()[-2000:]}")
    return int(done.stdout.split()[-1]) / 1024


def own_peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def emptied(directory: Path) -> Path:
    """The directory, new and empty."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
