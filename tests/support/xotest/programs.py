"""Programs that tests use as independent witnesses; a missing one skips with the command that installs it.

With ``CI`` set a missing program fails instead: a green run there must have asked every witness.
"""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "nbdinfo": "libnbd-bin",
    "nbdcopy": "libnbd-bin",
    "nbdkit": "nbdkit",
    "nginx": "nginx-light",
    "curl": "curl",
    "node": "nodejs npm",
    "zstd": "zstd",
    "strace": "strace",
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "virtiofsd": "qemu-system-common",
    "modprobe": "kmod",
    "ganesha.nfsd": "nfs-ganesha nfs-ganesha-vfs",
    "mount.nfs": "nfs-common",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "chromium": "chromium",
    "promtool": "prometheus",
}


def need(program: str) -> str:
    """The path of ``program``; skips (fails in CI) when it is not installed."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found:
        return found
    advice = f"{program} is missing: apt-get install -y --no-install-recommends {PACKAGES.get(program, program)}"
    if os.environ.get("CI"):
        pytest.fail(advice)
    pytest.skip(advice)
