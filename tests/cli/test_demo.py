"""``demo``: what a newcomer sees is true; the repository it leaves stands before every judge."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from remotes.url import open_remote
from xobackup.cli.demo.command import demo
from xobackup.cli.demo.ganesha import can_be_exported
from xobackup.cli.demo.machine import installed
from xobackup.cli.demo.story import Summary
from xobackup.cli.errors import NotThere
from xotest.s3.stores import Store
from xotest.site import command, environment, finish, start, xobackup
from xotest.xo_rules import assert_conformant, assert_nothing, points, vhd_util_check_chain

TIMEOUT_S = 270


@pytest.mark.slow
def test_it_tells_the_whole_story_and_leaves_a_good_repository(tmp_path: Path) -> None:
    kept = tmp_path / "demo"
    result = finish(start("demo", "--directory", kept, "--runs", "4", "--seed", "7", "--json"), timeout_s=TIMEOUT_S)
    assert result.code == 0 and "Traceback" not in result.err, result
    story = " ".join(step["text"] for step in result.of("step"))
    for told in ("killed by SIGKILL", "disks read back as they were", "Restored", "agree with their digests"):
        assert told in story
    (summary,) = result.of("demo")
    assert (summary["runs"], summary["kept"], summary["fulls"], summary["deltas"]) == (5, 6, 4, 16)
    assert summary["compared_disks"] >= 12 + 12 + 3 and summary["directory"] == str(kept)
    repository = kept / "repository"
    assert_nothing(repository)
    assert_conformant(repository)
    vhds = list(repository.glob("xo-vm-backups/*/vdis/*/*/*.vhd"))
    assert len(vhds) == 12  # 2 VMs x 2 disks x 3 kept
    for vhd in vhds:
        assert vhd_util_check_chain(repository, str(vhd.relative_to(repository))) == []
    for vm in (repository / "xo-vm-backups").iterdir():
        if vm.is_dir():
            assert len(points(repository, vm.name)) == 3
    assert xobackup("verify", "-r", repository).code == 0


def test_the_summary_is_told_in_whole_sentences() -> None:
    told = Summary(runs=7, restore_points=14, kept=6, fulls=4, deltas=24, read_bytes=3 << 20, merged_blocks=8).lines()
    assert told[0] == "What happened:"
    assert "7 backups of 2 running VMs" in told[1] and "3.0 MiB read" in told[1] and "6 are kept" in told[2]
    assert all(line.endswith(".") for line in told[1:])


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    result = xobackup("demo", "-d", tmp_path)
    assert result.code == 2 and "is not empty" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_missing_program_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(NotThere, match="no-such-program is missing") as caught:
        installed("no-such-program", "nfs-common")
    assert caught.value.hint == "apt-get install --no-install-recommends nfs-common"


def test_only_what_can_be_exported_is_served_as_it_is(tmp_path: Path) -> None:
    assert not can_be_exported(tmp_path / "missing") and not can_be_exported(Path("/proc"))


def test_nfs_in_another_machine_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xobackup.cli.demo.nfs.kernel_can_mount", lambda: False)
    with pytest.raises(NotThere, match="no NFS client") as caught:
        demo(directory=tmp_path, remote="nfs", runs=None, seed=0, verbose=False, as_json=False)
    assert "without --directory" in str(caught.value.hint)


@pytest.mark.slow
def test_it_tells_the_same_story_on_an_object_store(tmp_path: Path, radosgw_stores: tuple[Store, Store]) -> None:
    store = radosgw_stores[0]
    url = store.url(store.bucket(), "demo")
    result = finish(start("demo", "--remote", url, "--runs", "4", "--json"), timeout_s=TIMEOUT_S)
    assert result.code == 0 and "Traceback" not in result.err, result
    (summary,) = result.of("demo")
    assert (summary["runs"], summary["kept"]) == (5, 6) and summary["repository"].startswith("s3+http://***@")
    assert store.secret not in result.out + result.err
    assert_nothing(open_remote(url))
    again = xobackup("demo", "--remote", url)
    assert again.code == 2 and "has backups" in again.err


def test_it_leaves_the_service_running_for_a_look_until_it_is_interrupted() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("demo", "--runs", "4", "--look"), stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment(TERM="xterm"), start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = bytearray()
    try:
        while b"status page at" not in said:
            said += os.read(ours, 65536)
        found = re.search(rb"status page at (http://[0-9.:]+)", said)
        assert found, said
        with urllib.request.urlopen(f"{found[1].decode()}/api/v1/status") as answer:
            status = json.loads(answer.read())
        assert status["vms"] == 2 and status["within"] == 2 and status["problems"] == []
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                said += piece
        assert process.wait(timeout=60) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(ours)
