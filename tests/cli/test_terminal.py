"""On a terminal there are bars and colours; in a pipe there are lines and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from xotest.site import Site, command, environment

ESCAPE = "\x1b["
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(site: Site, *arguments: str, columns: int = 80) -> tuple[int, str]:
    """The command with a terminal as its standard output and error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        command(*arguments, "--config", site.config),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color"),
    )
    os.close(theirs)
    said = bytearray()
    with contextlib.suppress(OSError):  # a terminal whose other side is closed
        while piece := os.read(ours, 65536):
            said += piece
    os.close(ours)
    return process.wait(timeout=60), said.decode()


def test_a_run_shows_bars_that_are_gone_at_the_end(site: Site) -> None:
    site.configure("rate_limit_mib_s = 4")
    code, said = on_terminal(site, "run", "--vm", "db")
    assert code == 0
    assert ESCAPE in said and "━" in said and "db data" in said
    assert "\x1b[?25h" in said, "the cursor is back"


def test_a_pipe_gets_plain_lines(shared: Site) -> None:
    result = shared.xobackup("restore", "vm", "web", "-r", "nas", "-p", "sim", "--dry-run")
    assert ESCAPE not in result.out + result.err
    assert all(line == line.rstrip("\r") for line in result.out.splitlines())


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_and_break_no_short_word(shared: Site, columns: int) -> None:
    for arguments in (["backups", "list"], ["backups", "show", "web"], ["plan"]):
        code, said = on_terminal(shared, *arguments, columns=columns)
        assert code == 0
        assert all(len(STYLE.sub("", line)) <= columns for line in said.splitlines())
        assert "web" in said and "database" not in said


def test_errors_are_wrapped_at_words(shared: Site) -> None:
    code, said = on_terminal(shared, "backups", "show", "a-vm-that-is-not-there", columns=60)
    assert code == 2 and "error: " in said and "'a-vm-that-is-not-there'" in said


def test_a_disk_does_not_go_to_a_terminal(shared: Site) -> None:
    code, said = on_terminal(shared, "restore", "disk", "db", "-r", "nas", "-d", "0", "-o", "-")
    assert code == 2 and "a disk does not belong on a terminal" in said
