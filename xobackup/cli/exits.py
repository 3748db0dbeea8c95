"""The exit codes, in one table. README shows the same table; a test compares them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the process's exit code tells a script."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    LOCKED = 4
    DAMAGE = 5
    UNREACHABLE = 6
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "failed; the last lines on standard error say why",
    Exit.USAGE: "wrong usage or configuration; nothing was touched",
    Exit.SOME_FAILED: "a part failed (a VM, a pool or a remote), the rest is done",
    Exit.LOCKED: "another run or another program is at work on the same VM",
    Exit.DAMAGE: "damage was found in a backup",
    Exit.UNREACHABLE: "a pool or a remote cannot be reached, or does not let us in",
    Exit.INTERRUPTED: "interrupted from the keyboard; cleaned up",
    Exit.TERMINATED: "terminated by a signal; cleaned up",
}
