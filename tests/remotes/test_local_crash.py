"""Killed at every system call, and without power at any moment: the old content or the new, never half of it."""

from __future__ import annotations

import collections
import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from remotes import errors, names
from remotes.local import LocalRemote
from xotest.mounts import loop
from xotest.programs import need

OLD = b"old" * 1000
NEW = b"new" * 100_000
TRACED = "openat,mkdirat,mkdir,write,pwrite64,fsync,rename,renameat,renameat2,linkat,unlinkat,close,fstat,newfstatat"
PROGRAM = """
import sys
from remotes.local import LocalRemote
NEW = b"new" * 100_000
remote = LocalRemote(sys.argv[1])
print("begin", flush=True)
{job}
"""
JOBS = {
    "replace": 'remote.put("dir/object", NEW)',
    "new": 'remote.put("deep/er/object", NEW, replace=False)',
    "rename": 'remote.rename("dir/next", "dir/object", replace=True)',
}


def prepare(root: Path) -> None:
    remote = LocalRemote(root, create_root=True)
    remote.put("dir/object", OLD)
    remote.put("dir/next", NEW)
    remote.close()


def traced(job: str, root: Path, *arguments: str, log: Path) -> subprocess.CompletedProcess[str]:
    watched = [argument for path in watched_paths(root) for argument in ("-P", str(path))]
    command = [need("strace"), "-f", "-y", "-o", str(log), *watched, *arguments]
    python = [sys.executable, "-c", PROGRAM.format(job=JOBS[job]), str(root)]
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*command, *python], capture_output=True, text=True, env=environment, check=False)


def watched_paths(root: Path) -> list[Path]:
    return [root, root / "dir", root / "dir/object", root / "deep", root / "deep/er"]


def calls_of(log: Path) -> collections.Counter[str]:
    return collections.Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


def check(root: Path, job: str) -> None:
    """Every name holds something whole, and leftovers are known for what they are."""
    remote = LocalRemote(root)
    target = "deep/er/object" if job == "new" else "dir/object"
    allowed = (NEW,) if job == "new" else (OLD, NEW)
    for directory in ("", "dir", "deep", "deep/er"):
        with contextlib.suppress(errors.NotFound):
            for entry in remote.list(directory):
                known = {"dir", "deep", "er", "object", "next"}
                assert entry.name in known or names.is_temporary(entry.name), entry
    if job != "new" or (root / target).exists():
        assert remote.get(target) in allowed
    if job == "rename" and remote.get(target) == OLD:
        assert remote.get("dir/next") == NEW
    remote.close()


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_killed_at_every_call_it_leaves_something_whole(job: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prepare(tmp_path / "whole")
    done = traced(job, tmp_path / "whole", "-e", f"trace={TRACED}", log=log)
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    calls = calls_of(log)
    assert calls["fsync"] >= 1, "the trace saw nothing"
    killed = 0
    for call, count in calls.items():
        for number in range(1, count + 1):
            root = tmp_path / f"{call}-{number}"
            prepare(root)
            inject = f"inject={call}:signal=KILL:when={number}"
            done = traced(job, root, "-e", f"trace={call}", "-e", inject, log=log)
            killed += done.returncode != 0
            check(root, job)
    assert killed == sum(calls.values())


def test_what_returned_is_there_after_a_power_cut() -> None:
    with loop(64 << 20) as mounted:
        remote = LocalRemote(mounted.path)
        remote.put("dir/replaced", OLD)
        remote.put("dir/replaced", NEW)
        remote.put("deep/er/new", NEW, replace=False)
        remote.put("dir/renamed", OLD)
        remote.rename("dir/renamed", "other/place")
        remote.put("dir/deleted", OLD)
        remote.delete("dir/deleted")
        remote.make_directory("a/b/c")
        remote.put("tree/object", OLD)
        remote.delete_tree("tree")
        with contextlib.closing(remote.create("dir/file")) as file:
            for index in range(12):
                file.write_at(index << 20, bytes([index + 1]) * (1 << 20))
                file.written(index << 20, 1 << 20)
            file.sync()
            file.write_at(0, b"\xff")
        unsynced = remote.create("dir/unsynced")
        unsynced.write_at(0, NEW)
        unsynced.close()
        remote.close()
        mounted.power_cut()

        remote = LocalRemote(mounted.path)
        assert remote.get("dir/replaced") == NEW
        assert remote.get("deep/er/new") == NEW
        assert remote.get("other/place") == OLD
        assert remote.list("a/b/c") == []
        found = [entry.name for entry in remote.list("dir") if entry.name != "unsynced"]
        assert found == ["file", "replaced"]
        assert not (mounted.path / "tree").exists()
        whole = remote.get("dir/file")
        assert whole[1:] == b"".join(bytes([index + 1]) * (1 << 20) for index in range(12))[1:]
        remote.close()


def test_the_power_cut_of_this_test_does_lose_what_was_not_synced() -> None:
    with loop(64 << 20) as mounted:
        (mounted.path / "object").write_bytes(NEW)
        mounted.power_cut()
        path = mounted.path / "object"
        assert not path.exists() or path.read_bytes() != NEW
