"""Xen Orchestra's own repositories through the command line: listed, shown, verified, restored, never changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from xotest import golden
from xotest.site import xobackup

READABLE = [name for name in golden.NAMES if name != "encrypted"]


def tree(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(root)), path.stat().st_mtime_ns) for path in root.rglob("*"))


@pytest.mark.parametrize("name", READABLE)
def test_what_is_listed_is_what_is_there(name: str) -> None:
    one = golden.pristine(name)
    before = tree(one.root)
    (vm,) = xobackup("backups", "list", "-r", one.root, "--json").of("vm")
    assert (vm["uuid"], vm["points"]) == (one.vm, len(one.points()))
    points = xobackup("backups", "show", one.vm, "-r", one.root, "--json").of("restore-point")
    assert [point["id"] for point in points] == [point.removesuffix(".json") for point in one.points()]
    assert xobackup("backups", "show", one.vm, "-r", one.root).code == 0
    assert tree(one.root) == before


@pytest.mark.parametrize("name", READABLE)
def test_verify_finds_no_damage_and_says_what_has_no_digest(name: str, tmp_path: Path) -> None:
    one = golden.unpack(name, tmp_path)
    before = tree(one.root)
    result = xobackup("verify", "-r", one.root)
    assert result.code == 0 and "no damage found" in result.out, result
    if list(one.disks()):
        assert "blocks have no digest: only their structure can be told" in result.out
    assert xobackup("clean", "-r", one.root).code == 0
    assert xobackup("merge", "-r", one.root, "--dry-run").code == 0
    noted = [path for path in tree(one.root) if path not in before]
    assert all(path[0].startswith(".xobackup") for path in noted), "what was verified when is private"
    assert set(before) <= set(tree(one.root))


@pytest.mark.parametrize("name", READABLE)
def test_every_disk_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    one = golden.pristine(name)
    before = tree(one.root)
    for number, (point, disk) in enumerate(one.disks()):
        target = tmp_path / f"{number}.raw"
        vm = "oracle vm" if number == 0 else one.vm
        point_id = point.removesuffix(".json")
        result = xobackup("restore", "disk", vm, point_id, "-r", one.root, "-d", disk.snapshot_uuid, "-o", target)
        assert result.code == 0, result
        assert hashlib.sha256(target.read_bytes()).hexdigest() == disk.sha256
        target.unlink()
    assert tree(one.root) == before


@pytest.mark.parametrize("command", [["backups", "list"], ["verify"], ["clean"], ["merge"]])
def test_an_encrypted_repository_is_refused_clearly(command: list[str]) -> None:
    one = golden.pristine("encrypted")
    before = tree(one.root)
    result = xobackup(*command, "-r", one.root)
    assert result.code == 1 and "the remote is encrypted" in result.err and "hint: " in result.err
    assert tree(one.root) == before


@pytest.mark.parametrize("name", ["interrupted-file", "interrupted-directory"])
def test_an_interrupted_merge_is_finished(name: str, tmp_path: Path) -> None:
    one = golden.unpack(name, tmp_path)
    steps = xobackup("merge", "-r", one.root, "--json").of("step")
    assert any(step["action"] == "resume" for step in steps)
    assert "nothing to merge" in xobackup("merge", "-r", one.root).out
    assert xobackup("verify", "-r", one.root).code == 0
