"""Commands of the operator's: what they are given, how they end, and that nothing of them is left when they must."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from xobackup.engine.cancel import CancelToken
from xobackup.engine.hooks import command as command_module
from xobackup.engine.hooks.command import run_command


def shell(script: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *arguments]


def run(command: list[str], *, timeout_s: float = 20, cancel: CancelToken | None = None, **variables: str) -> str:
    return run_command(command, {"PATH": os.environ["PATH"], **variables}, timeout_s=timeout_s, cancel=cancel)


def test_arguments_and_variables_reach_it_as_they_are(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hostile = "$(touch /tmp/x); `id` \"'\n*"
    assert run(shell('printf %s "$1$NAME" > "$OUT"', hostile), NAME=hostile, OUT=str(out)) == ""
    assert out.read_text() == hostile + hostile


def test_a_failure_tells_its_code_and_its_last_lines() -> None:
    told = run(shell("for i in 1 2 3 4 5 6 7; do echo line $i; done; echo '\033[31mred' >&2; exit 3"))
    assert told == "ended with exit code 3: line 4 | line 5 | line 6 | line 7 | [31mred"


def test_what_cannot_be_started_is_told() -> None:
    assert "cannot be started" in run(["/nowhere/at/all"])
    assert "cannot be started" in run(["/bin/true"], BAD="a\0b")


def test_a_signal_is_named() -> None:
    assert run(shell("kill -SEGV $$")) == "was killed by SIGSEGV"


def test_a_flood_of_output_neither_blocks_nor_fills_memory() -> None:
    told = run(shell("head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end; exit 1"))
    assert told.endswith("end") and len(told) < 1000


def alive(pid: int) -> bool:
    try:
        return b" Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


def pids(path: Path, count: int) -> list[int]:
    deadline = time.monotonic() + 20
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(line) for line in path.read_text().splitlines()]


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


FAMILY = 'echo $$ >> "$OUT"; (trap "" TERM; echo $(exec sh -c "echo \\$PPID") >> "$OUT"; sleep 300) & wait'


def test_too_slow_a_command_is_killed_with_its_children(tmp_path: Path) -> None:
    out = tmp_path / "pids"
    told = run(shell(FAMILY), timeout_s=0.5, OUT=str(out))
    assert told == "did not end within 0.5 s and was killed"
    assert all(gone(pid) for pid in pids(out, 2)), "the child ignored the polite signal"


def test_one_that_ignores_the_polite_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "GRACE_S", 0.2)
    assert "was killed" in run(shell("trap '' TERM; echo stubborn; while :; do sleep 0.05; done"), timeout_s=0.3)


def test_stopping_the_run_ends_it_at_once(tmp_path: Path) -> None:
    out, cancel = tmp_path / "pids", CancelToken()
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(run(shell(FAMILY), cancel=cancel, OUT=str(out))))
    thread.start()
    both = pids(out, 2)
    cancel.cancel("enough")
    thread.join(20)
    assert told == ["was ended because the run stops (enough)"]
    assert all(gone(pid) for pid in both)


def test_one_that_begins_after_the_stop_is_ended_too() -> None:
    cancel = CancelToken()
    cancel.cancel("enough")
    assert run(shell("sleep 300"), cancel=cancel) == "was ended because the run stops (enough)"


def test_a_child_left_behind_on_success_is_left_alone_and_not_waited_for(tmp_path: Path) -> None:
    out = tmp_path / "pids"
    assert run(shell('sleep 300 & echo $! > "$OUT"'), OUT=str(out)) == ""
    (pid,) = pids(out, 1)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
