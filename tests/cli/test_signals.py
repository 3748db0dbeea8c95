"""Stopping: one clean line, the exit code of the signal, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.live import watching
from xobackup.cli.output import Output
from xobackup.cli.repositories import opened
from xobackup.engine.job import RemoteTarget
from xotest.site import Site, start, wait_until
from xotest.xo_rules import assert_nothing

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
SLOW = "rate_limit_mib_s = 0.5"


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Lines of standard error up to the first with ``text``."""
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return seen
    pytest.fail(f"the process ended without saying {text!r}: {seen}")


def drained(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    return (out or "") + (err or "")


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_run_that_is_stopped_tidies_up(site: Site, number: int, code: int) -> None:
    site.configure(SLOW)
    process = site.start("run", "--vm", "db")
    read_until(process, "db: 1 disk: 1 full")
    process.send_signal(number)
    said = drained(process)
    assert process.returncode == code, said
    assert f"error: job nightly: stopped by {signal.Signals(number).name}" in said and "Traceback" not in said
    assert not list((site.state / "active").glob("*"))
    assert not site.pool.model.get("VM", site.pool.vm_named("db"))["snapshots"]
    assert not site.pool.model.get("VM", site.pool.vm_named("db"))["blocked_operations"]
    assert_nothing(site.repository)
    site.configure()
    site.xobackup("run")
    assert_nothing(site.repository)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_restore_to_a_pipe_that_is_stopped(shared: Site, number: int, code: int) -> None:
    process = shared.start("restore", "disk", "web", "-r", "nas", "-d", "0", "-o", "-", text=False)
    assert process.stdout is not None
    assert process.stdout.read(1)  # it is writing, and soon waits for us: the disk is larger than a pipe
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.decode() == f"error: stopped by {signal.Signals(number).name}\n"


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_restored_vm_that_is_stopped_leaves_nothing_on_the_pool(site: Site, number: int, code: int) -> None:
    site.xobackup("run", "--vm", "db")
    model = site.pool.model
    before = set(model.records("VM")), set(model.records("VDI"))
    creating = site.pool.faults.delay_call("*VDI.create", 0.5, times=1)
    process = site.start("restore", "vm", "db", "-r", "nas", "-p", "sim", "--differential", "never")
    wait_until(lambda: creating.fired == 1)
    process.send_signal(number)
    said = drained(process)
    assert process.returncode == code, said
    assert f"error: stopped by {signal.Signals(number).name}" in said and "Traceback" not in said
    assert (set(model.records("VM")), set(model.records("VDI"))) == before


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_verbs_that_only_watch_the_switch_end_with_the_signals_code(number: int, code: int) -> None:
    told = f"stopped by {signal.Signals(number).name}"
    with pytest.raises(Outcome, match=told) as caught, watching(Output(as_json=False)) as watch:
        os.kill(os.getpid(), number)
        watch.cancel.check()
    assert caught.value.exit_code == code


def test_an_error_after_the_signal_is_not_swallowed() -> None:
    told = "stopped by SIGTERM, and then: disk on fire"
    with pytest.raises(Outcome, match=told) as caught, watching(Output(as_json=False)) as watch:
        watch.cancel.cancel("stopped by SIGTERM")
        raise OSError("disk on fire")
    assert caught.value.exit_code is Exit.TERMINATED


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_command_without_a_switch_ends_at_once(tmp_path: Path, shared: Site, number: int, code: int) -> None:
    """A configuration that is a pipe nobody writes to: the command waits in a read."""
    fifo = tmp_path / "xobackup.toml"
    os.mkfifo(fifo)
    process = start("backups", "list", "-c", fifo)
    writer: list[int] = []
    opener = threading.Thread(target=lambda: writer.append(os.open(fifo, os.O_WRONLY)))
    opener.start()
    opener.join()  # the process has it open now
    process.send_signal(number)
    said = drained(process)
    os.close(writer[0])
    assert process.returncode == code, said
    assert "Traceback" not in said


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("verb", ["run", "merge", "clean"])
def test_who_waits_for_a_lock_notices_the_signal(site: Site, verb: str, number: int, code: int) -> None:
    site.xobackup("run", "--vm", "db")
    vm = site.pool.model.get("VM", site.pool.vm_named("db"))["uuid"]
    (site.repository / "xo-vm-backups" / vm / ".20200101T000000Z.json.0123456789abcdef.tmp").write_bytes(
        b"a leftover"
    )
    more = {"run": ["--vm", "db"], "merge": ["-r", "nas"], "clean": ["-r", "nas", "--apply"]}
    asked = site.repository / ".xobackup" / "locks"
    with (
        opened(RemoteTarget(name="nas", url=site.repository.as_uri())) as repository,
        repository.lock(vm, purpose="a test"),
    ):
        before = asked.stat().st_mtime_ns
        process = site.start(verb, *more[verb])
        wait_until(lambda: asked.stat().st_mtime_ns != before)  # who finds a lock looks whether it is stale
        process.send_signal(number)
        said = drained(process)
        assert process.returncode == code, said
    assert "Traceback" not in said and "lock" not in said.replace("locks", ""), "it did not wait to the end"


def test_a_second_signal_does_not_wait_for_the_clean_up_and_the_next_start_does_it(site: Site) -> None:
    site.configure(SLOW)
    process = site.start("run", "--vm", "db")
    read_until(process, "db: 1 disk: 1 full")
    wait_until(lambda: bool(site.pool.model.get("VM", site.pool.vm_named("db"))["snapshots"]))
    cleaning = site.pool.faults.delay_call("*VDI.destroy", 3.0, times=1)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: cleaning.fired == 1)

    def ended() -> bool:  # the first ones may pass for the echo of the interrupt
        process.send_signal(signal.SIGTERM)
        return process.poll() is not None

    wait_until(ended)
    said = drained(process)
    assert process.returncode == 143 and "stopped at once" in said, said
    assert list((site.state / "active").glob("*")), "nothing was cleaned up"
    for lock in site.repository.glob("xo-vm-backups/*.lock"):
        os.utime(lock, (0, 0))
    site.configure()
    site.xobackup("run", "--vm", "db")
    db = site.pool.model.get("VM", site.pool.vm_named("db"))
    assert len(db["snapshots"]) == 1 and not db["blocked_operations"]
    assert not list((site.state / "active").glob("*"))
    assert_nothing(site.repository)
