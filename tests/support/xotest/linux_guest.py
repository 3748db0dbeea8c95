"""The machine of :mod:`xobackup.cli.demo.machine` for tests: what is missing skips, and fails in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xobackup.cli.demo.machine import PACKAGES, VIRTIOFSD, Ended, run_in_machine
from xotest.programs import need


def run_in_guest(command: list[str], *, share: Path, environment: dict[str, str], timeout_s: float = 320) -> Ended:
    """See :func:`~xobackup.cli.demo.machine.run_in_machine`."""
    for program in PACKAGES:
        need(program)
    if not any(Path(path).exists() for path in VIRTIOFSD):
        need("virtiofsd")
    if os.geteuid() != 0:
        pytest.skip("sharing the root with a guest needs root")
    if not list(Path("/boot").glob("vmlinuz-*cloud*")):
        need("linux-image-cloud-amd64")
    return run_in_machine(command, share=share, environment=environment, timeout_s=timeout_s)
