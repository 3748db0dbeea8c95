"""Questions to a running guest, asked again until it answers well or the time is over."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from xobackup.engine.health.request import CheckFailed, Probe

if TYPE_CHECKING:
    from xobackup.clock import Clock

TRY_S = 5.0
"""One attempt to connect."""
PAUSE_S = 1.0
TOLD_MAX = 300
"""Characters of a command's output that an error quotes."""


def ask(
    probe: Probe,
    *,
    address: Callable[[], str | None],
    environment: Mapping[str, str],
    until_s: float,
    clock: Clock,
    check: Callable[[], None],
) -> None:
    """Return when the guest has answered. Raises :class:`CheckFailed` with the last answer at ``until_s``
    (monotonic). ``check`` raises when somebody wants to stop. A command runs once:
    it has its own patience."""
    if probe.tcp is None:
        _run(probe.command, {**environment, "XOBACKUP_VM_ADDRESS": address() or ""}, until_s - clock.monotonic_s())
        return
    found = "the guest has told no address"
    while True:
        check()
        where = address()
        if where is not None:
            try:
                socket.create_connection((where, probe.tcp), timeout=TRY_S).close()
                return
            except OSError as error:
                found = f"{where}: {error}"
        if clock.monotonic_s() >= until_s:
            raise CheckFailed(f"tcp port {probe.tcp} did not answer in time: {found}")
        clock.sleep(PAUSE_S)


def _run(words: tuple[str, ...], environment: Mapping[str, str], left_s: float) -> None:
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=max(1.0, left_s),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"the command {words[0]} did not end in time") from None
    except OSError as error:
        raise CheckFailed(f"the command {words[0]} could not be run: {error}") from error
    if done.returncode:
        told = done.stdout.decode(errors="replace").strip()[-TOLD_MAX:]
        raise CheckFailed(f"the command {words[0]} ended with {done.returncode}: {told or '(it said nothing)'}")
