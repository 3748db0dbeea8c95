"""The program itself: help that comes at once, errors that end cleanly, standard output that may go away."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest
import typer

from xobackup.cli.main import app
from xotest.site import Site, command, environment, finish, start, xobackup

HEAVY = ("httpx", "boto3", "botocore", "cryptography", "zstandard", "brotli", "xobackup.engine", "xobackup.simpool")


def paths(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, one in getattr(group, "commands", {}).items():
        found += paths(one, (*path, name))
    return found


@pytest.mark.parametrize("path", paths(typer.main.get_command(app)), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = xobackup(*path, "--help")
    assert result.code == 0 and not result.err
    assert "Usage: xobackup" in result.out and result.out == xobackup(*path, "-h").out


@pytest.mark.parametrize("path", [(), ("run",), ("restore", "vm"), ("demo",)], ids=" ".join)
def test_help_loads_nothing_heavy(path: tuple[str, ...]) -> None:
    code = (
        "import sys, json; from xobackup.cli.main import main; main([*sys.argv[1:], '--help']);"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *path], capture_output=True, text=True, check=True, env=environment()
    )
    loaded = set(json.loads(done.stderr))
    assert not [name for name in HEAVY if name in loaded]
    assert "xobackup.config.model" not in loaded
    if not path:
        assert "pydantic" not in loaded


def test_the_version_is_told() -> None:
    result = xobackup("--version")
    assert result.code == 0 and result.out.startswith("xobackup") and result.out.count("\n") == 1


def test_no_arguments_show_the_help() -> None:
    assert "Commands" in xobackup().out + xobackup().err


@pytest.mark.parametrize(
    "arguments", [["runn"], ["run", "--bogus"], ["restore", "disk"], ["verify", "--percent", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = xobackup(*arguments)
    assert result.code == 2 and "Usage: xobackup" in result.err and not result.out


def test_shell_completion_works() -> None:
    line = shlex.join(command("--show-completion")) + "; true"  # from a shell, which is how the shell is known
    shown = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=environment())
    assert "complete" in shown.stdout + shown.stderr
    words = environment(_XOBACKUP_COMPLETE="complete_bash", COMP_WORDS="xobackup re", COMP_CWORD="1")
    done = subprocess.run(command(), capture_output=True, text=True, check=False, env=words)
    assert {"restore", "remote"} <= set(done.stdout.split())


def test_nobody_listening_is_no_traceback(shared: Site) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = shared.start("backups", "list", "--json", stdout=writing)
    os.close(writing)
    result = finish(process)
    assert result.code in (0, 1) and "Traceback" not in result.err and "Exception ignored" not in result.err


def test_a_bug_of_ours_leaves_a_traceback_to_attach(monkeypatch: pytest.MonkeyPatch, tmp_path, shared: Site) -> None:
    import tempfile

    from xobackup.cli import repositories

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(repositories, "each", lambda *_, **__: 1 / 0)
    result = shared.xobackup("backups", "list", code=1)
    assert result.err.startswith("error: internal error: ZeroDivisionError")
    (crash,) = tmp_path.glob("xobackup-crash-*.txt")
    assert f"hint: this is a bug of xobackup; the traceback is in {crash}" in result.err
    assert "ZeroDivisionError" in crash.read_text()
    assert crash.stat().st_mode & 0o077 == 0


def test_debug_shows_the_traceback_too(shared: Site) -> None:
    process = start("backups", "list", "--remote", "/nonexistent", env=environment(XOBACKUP_DEBUG="1"))
    result = finish(process)
    assert result.code == 6 and "Traceback" in result.err and "error: file:///nonexistent: " in result.err
