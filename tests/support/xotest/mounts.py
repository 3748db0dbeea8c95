"""Small real file systems for tests that need one to run full, be read-only, or lose power.

Needs root and loop devices; skips with the reason otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from xotest.programs import need

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")


def _need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


@contextlib.contextmanager
def tmpfs(size_bytes: int, *, options: str = "") -> Iterator[Path]:
    """A mounted tmpfs of that size."""
    _need_root()
    point = Path(tempfile.mkdtemp(prefix="xotest-tmpfs-"))
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}{options and ',' + options}", "none", point)
    try:
        yield point
    finally:
        _unmount(point)
        point.rmdir()


class Loop:
    """A file system in a file, mounted at ``path``."""

    def __init__(self, image: Path, path: Path) -> None:
        self.image = image
        self.path = path

    def mount(self, options: str = "") -> None:
        _run("mount", "-o", f"loop{options and ',' + options}", self.image, self.path)

    def unmount(self) -> None:
        _unmount(self.path)

    def power_cut(self) -> None:
        """What is not durable yet is gone; afterwards mounted again. Only ext4 and XFS."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)
        self.unmount()
        self.mount()

    def die(self) -> None:
        """Every call fails with EIO from now on."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def loop(size_bytes: int, *, kind: str = "ext4") -> Iterator[Loop]:
    """A mounted loop file system: ``ext4``, ``xfs`` (at least 300 MiB) or ``btrfs`` (at least 110 MiB)."""
    _need_root()
    make = need(f"mkfs.{kind}")
    directory = Path(tempfile.mkdtemp(prefix="xotest-loop-"))
    mounted = Loop(directory / "image", directory / "mounted")
    mounted.path.mkdir()
    try:
        with mounted.image.open("wb") as image:
            image.truncate(size_bytes)
        _run(make, "-q", mounted.image)
        mounted.mount()
        try:
            yield mounted
        finally:
            mounted.unmount()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unmount(point: Path) -> None:
    subprocess.run(["umount", str(point)], capture_output=True, check=False)
    if point.is_mount():
        subprocess.run(["umount", "-l", str(point)], check=True)
