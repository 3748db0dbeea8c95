"""A command of the command line as a child of the service: ``python child.py PARENT ARGUMENTS...``.

It dies with the service: a service that was killed leaves no command running that nobody knows of. What it had begun
is then taken over or cleaned up as that of any process that died. What a person would read about what goes on is
written to standard error, beside the records on standard output.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""``linux/prctl.h``"""


def die_with(parent: int) -> None:
    """Be killed when ``parent``, which began this process, ends; at once when it has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Be that command."""
    die_with(int(sys.argv[1]))
    source = str(Path(__file__).resolve().parents[3])
    if source not in sys.path:  # of a tree that is not installed
        sys.path.append(source)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper), "pipes"
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    from xobackup.cli import output
    from xobackup.cli.main import run

    output.NOTES_WITH_JSON = True
    sys.argv = ["xobackup", *sys.argv[2:]]
    run()


if __name__ == "__main__":
    main()
